"""The style sheet of the HTML report."""

STYLE = """
:root { --page: #f6f7f9; --card: #fff; --ink: #1a1d23; --soft: #5b616e; --line: #dfe2e8;
  --accent: #0b7285; --shade: 11, 114, 133; }
@media (prefers-color-scheme: dark) { :root { --page: #14161b; --card: #1d2027; --ink: #e8eaee;
  --soft: #a3a9b6; --line: #343944; --accent: #66c7d8; --shade: 74, 178, 199; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: clamp(1.4rem, 1rem + 2vw, 2rem); line-height: 1.2; margin: .5rem 0 1.25rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1.1rem 1.2rem; margin: 0 0 1rem; }
dl { display: grid; grid-template-columns: minmax(7rem, auto) 1fr; gap: .3rem 1.25rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem;
  margin-bottom: 1.25rem; }
.tiles div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.tiles dt { font-size: .8rem; }
.tiles dd { font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin-bottom: 1.25rem; }
.scroll:last-child { margin-bottom: 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .4rem; }
th, td { padding: .42rem .75rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: .85rem; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { padding-left: .1rem; }
.total tbody tr:last-child > * { border-top: 2px solid var(--line); font-weight: 600; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.matrix td { background: rgba(var(--shade), calc(var(--share) * .42)); }
.matrix small { display: block; }
small { color: var(--soft); font-size: .8rem; }
.matrix td small { color: inherit; opacity: .75; }
figure { margin: 0 0 1.25rem; }
figure:last-child { margin-bottom: 0; }
figure .scroll { margin-bottom: 0; }
img { display: block; width: 100%; height: auto; border-radius: .4rem; background: #fff; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem; }
ul { margin: 0; padding: 0; list-style: none; }
li { padding: .2rem 0; overflow-wrap: anywhere; }
a { color: var(--accent); }
@media (max-width: 34rem) { main { padding: .75rem .5rem 2rem; } section { padding: .9rem; }
  dl:not(.tiles) { grid-template-columns: 1fr; gap: 0; } dl:not(.tiles) dd { margin-bottom: .5rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); } img { min-width: 42rem; } }
@media print { section { break-inside: avoid; } }
"""
