"""The oracle is SQL's logic row by row in plain Python: True, False or None for unknown."""

import json
import operator
import re
from datetime import UTC, datetime, timedelta

import cql2
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import shapely

from rscontrast.errors import InputError
from rscontrast.stac.conditions.filter import Filter, read_filter

COMPARE = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
WORDS = ["s2a", "S2b", "landsat_8", "50%", "é\nx", ""]
PATTERNS = ["s2_", "%", "S2%", "%\\_8", "50\\%", "_%x", "", "landsat.8", "%2%"]
DAYS = [datetime(2022, 1, 1, tzinfo=UTC) + timedelta(hours=7 * n) for n in range(6)]


def both(parts):
    return False if False in parts else None if None in parts else True


def truth(node, row):
    """Value of CQL2 JSON for one row."""
    match node:
        case {"property": name}:
            return row.get(name)
        case {"timestamp": text}:
            return datetime.fromisoformat(text)
        case {"op": "and", "args": args}:
            return both([truth(arg, row) for arg in args])
        case {"op": "or", "args": args}:
            parts = [truth(arg, row) for arg in args]
            return True if True in parts else None if None in parts else False
        case {"op": "not", "args": [arg]}:
            part = truth(arg, row)
            return None if part is None else not part
        case {"op": "isNull", "args": [arg]}:
            return truth(arg, row) is None
        case {"op": "in", "args": [arg, members]}:
            part = truth(arg, row)
            return None if part is None else part in members
        case {"op": "between", "args": args}:
            value, low, high = (truth(arg, row) for arg in args)
            if value is None:
                return None
            return low <= value <= high
        case {"op": "like", "args": [arg, pattern]}:
            text = truth(arg, row)
            return None if text is None else like(text, pattern)
        case {"op": op, "args": args} if op in COMPARE:
            left, right = (truth(arg, row) for arg in args)
            return None if left is None or right is None else COMPARE[op](left, right)
        case {"op": op, "args": args}:
            left, right = (truth(arg, row) for arg in args)
            if left is None or right is None or (op == "/" and right == 0):
                return None
            return ARITHMETIC[op](left, right)
    return node


def like(text, pattern):
    """By recursion, unlike the code."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[n:], pattern[1:]) for n in range(len(text) + 1))
    if pattern[0] == "\\":
        pattern = pattern[1:]
    elif pattern[0] == "_":
        return bool(text) and like(text[1:], pattern[1:])
    return text[:1] == pattern[0] and like(text[1:], pattern[1:])


class Grammar:
    """Random filters and rows."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, options):
        return options[self.rng.integers(len(options))]

    def rows(self, count):
        """Rows of one type a column, with nulls; "absent" is in none of them."""
        kinds = {
            "eo:cloud_cover": [0.0, 2.5, 5.0, 50.0, None],
            "n": [-2, 0, 1, 3, None],
            "platform": [*WORDS, None],
            "datetime": [*DAYS, None],
            "flag": [True, False, None],
        }
        return [{name: self.pick(v) for name, v in kinds.items()} for _ in range(count)]

    def number(self, depth=1):
        match self.rng.integers(5 if depth else 3):
            case 0:
                return self.pick([-1, 0, 1, 2.5, 3, 50])
            case 1 | 2:
                return {"property": self.pick(["n", "eo:cloud_cover", "absent"])}
        sides = [self.number(depth - 1), self.number(depth - 1)]
        return {"op": self.pick(list(ARITHMETIC)), "args": sides}

    def day(self):
        return {"timestamp": self.pick(DAYS).isoformat().replace("+00:00", "Z")}

    def condition(self, depth=3):
        if depth and self.rng.random() < 0.6:
            parts = [self.condition(depth - 1) for _ in range(self.rng.integers(2, 4))]
            op = self.pick(["and", "or", "not"])
            return {"op": op, "args": parts[:1] if op == "not" else parts}
        text, time = {"property": "platform"}, {"property": "datetime"}
        compare = self.pick(list(COMPARE))
        match self.rng.integers(8):
            case 0 | 1:
                return {"op": compare, "args": [self.number(), self.number()]}
            case 2:
                return {"op": compare, "args": [text, self.pick(WORDS)]}
            case 3:
                return {"op": compare, "args": [time, self.day()]}
            case 4:
                return {"op": "like", "args": [text, self.pick(PATTERNS)]}
            case 5:
                members = self.pick([WORDS[:2], [1, 2.5, 0]])
                value = text if members[0] == "s2a" else self.number(0)
                return {"op": "in", "args": [value, members]}
            case 6:
                return {"op": "between", "args": [self.number(0), -1, self.pick([1, 5])]}
        name = self.pick(["n", "eo:cloud_cover", "platform", "datetime", "flag", "absent"])
        if name == "flag" and self.rng.random() < 0.5:
            return {"op": "=", "args": [{"property": "flag"}, True]}
        return {"op": "isNull", "args": [{"property": name}]}


def as_frame(rows):
    frame = pd.DataFrame(rows)
    frame["datetime"] = pd.to_datetime(frame["datetime"], utc=True)
    return frame


def as_table(rows):
    times = pa.field("datetime", pa.timestamp("us", tz="UTC"))
    kinds = {"eo:cloud_cover": "double", "n": "int64", "platform": "string", "flag": "bool"}
    return pa.Table.from_pylist(rows, pa.schema([*kinds.items(), times]))


@pytest.mark.parametrize("seed", range(80))
def test_random_filters_agree_with_the_oracle(seed):
    grammar = Grammar(seed)
    rows, tree = grammar.rows(120), grammar.condition()
    condition = read_filter(tree)
    expected = np.array([truth(tree, row) is True for row in rows])
    assert np.array_equal(condition.mask(as_frame(rows)), expected)
    again = read_filter(condition.text)
    assert np.array_equal(again.mask(as_frame(rows)), expected)

    table = as_table(rows).append_column("row", pa.array(range(len(rows))))
    pushed = condition.to_arrow(table.schema)
    if pushed is not None:
        kept = ds.dataset(table).to_table(filter=pushed)["row"].to_pylist()
        assert set(np.flatnonzero(expected)) <= set(kept)
        if "absent" not in condition.fields:
            assert set(np.flatnonzero(expected)) == set(kept)


@pytest.mark.parametrize("seed", range(40))
def test_complete_rows_agree_with_the_parser_s_own_evaluation(seed):
    grammar = Grammar(1000 + seed)
    tree, rows = grammar.condition(), grammar.rows(60)
    if "absent" in read_filter(tree).fields or '"/"' in json.dumps(tree):
        tree = {"op": "<", "args": [{"property": "n"}, 2]}
    if "timestamp" in json.dumps(tree) or "\\" in json.dumps(tree):
        tree = {"op": "like", "args": [{"property": "platform"}, "%2%"]}
    rows = [row for row in rows if None not in row.values()]
    items = [
        {"properties": row | {"datetime": row["datetime"].isoformat().replace("+00:00", "Z")}}
        for row in rows
    ]
    expected = [cql2.Expr(tree).matches(item["properties"]) for item in items]
    assert read_filter(tree).mask(as_frame(rows)).tolist() == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("eo:cloud_cover < 10", "a"),
        ("NOT eo:cloud_cover < 10", "c"),
        ("properties.eo:cloud_cover < 10", "a"),
        ("id IN ('a', 'c') AND collection = 'x'", "ac"),
        ("absent IS NULL", "abc"),
        ("absent > 1 OR NOT absent > 1", ""),
        ("true", "abc"),
        ("n % 2 = 1 AND n div 2 = 1 AND n ^ 2 = 9", "c"),
        ("-n = -2", "b"),
        ("n / 0 = 1 OR NOT n / 0 = 1", ""),
        ("n IN (n, 5)", "abc"),
        ("casei(platform) = casei('STRASSE')", "a"),
        ("casei(platform) LIKE casei('STRASS%')", "a"),
        ("accenti(platform) = accenti('eté')", "b"),
        ("casei(accenti(platform)) IN ('ete')", "b"),
        ("datetime > DATE('2022-01-01')", "ab"),
        ("datetime = DATE('2023-01-01')", "b"),
        ("datetime < '2022-06-01T00:00:00Z'", "a"),
        ("created >= TIMESTAMP('2022-01-01T00:00:00Z')", "ac"),
        ("created = datetime", "a"),
        ("datetime IS NULL", "c"),
        ("t_after(datetime, DATE('2022-06-01'))", "b"),
        ("t_before(datetime, DATE('2022-06-01'))", "a"),
        ("t_during(datetime, INTERVAL('2023-01-01', '..'))", ""),
        ("t_intersects(datetime, INTERVAL('2023-01-01', '..'))", "b"),
        ("t_disjoint(datetime, INTERVAL('2023-01-01', '..'))", "a"),
        ("t_during(INTERVAL(start, stop), INTERVAL('2021-01-01', '2022-01-01'))", "a"),
        ("t_equals(INTERVAL(start, stop), INTERVAL('2021-05-01', '2021-06-01'))", "a"),
        ("t_meets(INTERVAL('2020-01-01', start), INTERVAL(start, stop))", "ab"),
        ("s_intersects(geometry, BBOX(0.5, 0, 2, 2))", "a"),
        ("s_intersects(geometry, BBOX(170, -10, -170, 10))", "b"),
        ("s_within(geometry, POLYGON((-1 -1, 2 -1, 2 2, -1 2, -1 -1)))", "a"),
        ("s_disjoint(geometry, POINT(0.5 0.5))", "b"),
        ("NOT s_disjoint(geometry, POINT(0.5 0.5))", "a"),
        ("s_intersects(POINT(0 0), BBOX(-1, -1, 1, 1))", "abc"),
        ("geometry IS NULL", "c"),
        ("a_contains(names, ('p', 'q'))", "b"),
        ("a_containedBy(names, ('p', 'r'))", "a"),
        ("a_equals(names, ('q', 'p'))", "b"),
        ("a_overlaps(names, ('q', 'r'))", "b"),
        ("NOT a_overlaps(names, ('q', 'r'))", "a"),
        ("flag = false", "c"),
        ("(flag = true) IS NULL", "b"),
    ],
)
def test_what_is_kept(text, kept):
    frame = gpd.GeoDataFrame(
        {
            "id": list("abc"),
            "collection": ["x", "y", "x"],
            "datetime": pd.to_datetime(["2022-01-01T10:00Z", "2023-01-01T00:00Z", None], utc=True),
            "start": pd.to_datetime(["2021-05-01", "2023-01-01", None], utc=True).as_unit("ns"),
            "stop": pd.to_datetime(["2021-06-01", "9999-12-31", None]),
            "created": ["2022-01-01T10:00:00Z", None, "2022-01-01T01:00:00.5+01:00"],
            "eo:cloud_cover": [5, None, 50.0],
            "n": [1, 2, 3],
            "platform": pd.Categorical(["Straße", "été", None]),
            "names": [["p"], ["p", "q"], None],
            "flag": [True, None, False],
        },
        geometry=[shapely.box(0, 0, 1, 1), shapely.box(174, 0, 175, 1), None],
        crs=4326,
    )
    condition = read_filter(text)
    assert "".join(frame["id"][condition.mask(frame)]) == kept
    assert "".join(frame["id"][::-1][condition.mask(frame[::-1])]) == kept[::-1]
    assert not condition.mask(frame.iloc[:0]).size
    again = read_filter(condition.text)
    assert (again.text, again.fields) == (condition.text, condition.fields)
    table = pa.Table.from_pandas(pd.DataFrame(frame.drop(columns="geometry")))
    pushed = condition.to_arrow(table.schema)
    if pushed is not None:
        assert set(kept) <= set(ds.dataset(table).to_table(filter=pushed)["id"].to_pylist())


def test_temporal_relations_are_those_of_allen():
    """Of every two periods one of Allen's thirteen holds; each is the mirror of another."""
    mirrors = ["before after", "contains during", "equals equals", "finishes finishedBy"]
    mirrors += ["meets metBy", "overlaps overlappedBy", "starts startedBy"]
    names = sorted({name for pair in mirrors for name in pair.split()})
    ends = [(f"2022-01-0{a}", f"2022-01-0{b}") for a in range(1, 6) for b in range(a + 1, 6)]
    pairs = [(*left, *right) for left in ends for right in ends]
    frame = pd.DataFrame(pairs, columns=list("abcd"))

    def mask(name, left="a, b", right="c, d"):
        return read_filter(f"t_{name}(INTERVAL({left}), INTERVAL({right}))").mask(frame)

    masks = {name: mask(name) for name in names}
    assert (sum(masks.values()) == 1).all()
    for left, right in map(str.split, mirrors):
        assert np.array_equal(masks[left], mask(right, "c, d", "a, b"))
    assert np.array_equal(mask("disjoint"), masks["before"] | masks["after"])
    assert np.array_equal(mask("intersects"), ~mask("disjoint"))


def test_conjunctions_are_pushed_as_far_as_the_schema_goes():
    schema = pa.schema([("n", "int64"), ("platform", pa.dictionary("int32", "string"))])
    table = pa.table({"n": [1, 2, 3], "platform": ["a", "b", "a"]}).cast(schema)

    def kept(text):
        pushed = read_filter(text).to_arrow(schema)
        return (
            pushed if pushed is None else ds.dataset(table).to_table(filter=pushed)["n"].to_pylist()
        )

    assert kept("n > 1 AND absent = 2 AND casei(platform) = 'a'") == [2, 3]
    assert kept("n > 1 AND (absent = 2 OR n = 1)") == [2, 3]
    assert kept("platform LIKE 'a' AND platform IN ('a', 'q')") == [1, 3]
    assert kept("n > 1 OR absent = 2") is None
    assert kept("s_intersects(geometry, POINT(0 0)) AND n = 'x'") is None


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("a < 1 AND a >= 0 AND 5 > b", {"a": {"lt": 1, "gte": 0}, "b": {"lt": 5}}),
        ("a = 'x' AND (b <> true)", {"a": {"eq": "x"}, "b": {"neq": True}}),
        ("a IN (1, 2)", {"a": {"in": [1, 2]}}),
        ("a BETWEEN 1 AND 2.5", {"a": {"gte": 1, "lte": 2.5}}),
        ("a LIKE 'S2%'", {"a": {"startsWith": "S2"}}),
        ("a > DATE('2022-01-01')", {"a": {"gt": "2022-01-01"}}),
        ("a < 1 OR b = 2", None),
        ("NOT a = 1", None),
        ("a IS NULL", None),
        ("a < b", None),
        ("a + 1 = 2", None),
        ("a = 1 AND a = 2", None),
        ("id = 'x'", None),
        ("a LIKE 'x_%'", None),
        ("a IN (b, 1)", None),
        ("true", None),
    ],
)
def test_query_extension(text, query):
    assert read_filter(text).to_query() == query


def test_forms_give_the_same():
    tree = {"op": "<", "args": [{"property": "properties.eo:cloud_cover"}, 10]}
    forms = [read_filter(form) for form in ("eo:cloud_cover < 10", tree, json.dumps(tree))]
    assert {condition.text for condition in forms} == {"eo:cloud_cover < 10"}
    assert all(json.dumps(f.tree) == json.dumps(forms[0].tree) for f in forms)
    assert isinstance(forms[0].tree["args"][1], int)
    assert forms[0].fields == {"eo:cloud_cover"}
    assert read_filter(forms[0]) is forms[0]
    assert read_filter(None) is None
    assert isinstance(forms[0], Filter)


def prop(op, *args):
    return {"op": op, "args": [{"property": "a"}, *args]}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "1:1"),
        ("a <", "1:4"),
        ("a < 1 AND", "1:10"),
        ("a = 1 b = 2", "1:7"),
        ("a = 1;", "1:6"),
        ("a == 1", "1:4"),
        ("a IN ()", "1:7"),
        ("foo(a) = 1", "got 'foo'"),
        ("s_intersect(geometry, POINT(0 0))", "did you mean 's_intersects'"),
        ("a", "a condition"),
        ("a + 1", "a condition"),
        ("NOT a", "x = true"),
        ("a = NULL", "isNull"),
        ("a LIKE b", "a pattern in ''"),
        ("a LIKE 'x\\'", "lone"),
        ("a + 'x' = 1", "numbers"),
        ("'b' = 1", "two operands of one kind"),
        ("a < 1e400", "Infinity"),
        ("datetime BETWEEN '2022' AND '2023'", "datetime >="),
        ("datetime = DATE('2022-02-30')", "out of range"),
        ("datetime = TIMESTAMP('2022-01-01T25:00:00Z')", "hour"),
        ("t_after(datetime, 5)", "INTERVAL"),
        ("s_intersects(geometry, 5)", "BBOX"),
        ("s_intersects(geometry, POINT(0 95))", "latitudes"),
        ("casei(a, b) = 'x'", "1 operands of casei, not 2"),
        ('{"op":', "CQL2"),
        ({}, "CQL2"),
        (5, "CQL2"),
        (prop("=", 1) | {"filter-crs": "x"}, "this would be read as"),
        (prop("!=", 1), "this would be read as"),
        (prop("=", 2**53 + 1), "this would be read as"),
        (prop("eq", 1), "got 'eq'"),
        (prop("="), "2 operands of =, not 1"),
        (prop("=", 1, 2), "2 operands of =, not 3"),
        ({"op": "and", "args": [prop("=", 1)]}, "2 or more operands of and, not 1"),
        ({"op": "not", "args": [prop("=", 1), prop("=", 2)]}, "1 operands of not, not 2"),
        ({"op": "not", "args": [{"op": "or", "args": [prop("=", 1), prop("<", [1])]}]}, '"<"'),
        (prop("=", float("nan")), "CQL2"),
        (prop("=", {1}), "CQL2"),
        (prop("in", 1), "a list of values"),
    ],
)
def test_malformed(bad, why):
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        read_filter(bad)
    assert caught.value.argument == "filter"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("n = 'x'", "number = text in n = 'x'"),
        ("text < 5 AND n = 1", "text < number"),
        ("flag < true", "< of truth"),
        ("text > TIMESTAMP('2022-01-01T00:00:00Z')", "ISO form"),
        ("mixed = 1", "mixed, which holds values of several types"),
        ("n LIKE 'x'", "like of number"),
        ("s_intersects(n, POINT(0 0))", "s_intersects of geometry and number"),
        ("a_contains(n, (1, 2))", "a_contains of array and number"),
    ],
)
def test_properties_of_another_kind_are_refused(text, why):
    frame = pd.DataFrame({"n": [1], "text": ["x"], "flag": [True]}, index=[0])
    frame = pd.concat([frame, frame], ignore_index=True).assign(mixed=[1, "x"])
    with pytest.raises(InputError, match=re.escape(why)):
        read_filter(text).mask(frame)
