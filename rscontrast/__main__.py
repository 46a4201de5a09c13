"""``python -m rscontrast``."""

from rscontrast.cli import main

raise SystemExit(main())
