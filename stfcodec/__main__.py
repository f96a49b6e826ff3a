"""`python -m stfcodec` is the stfcodec command."""

from __future__ import annotations

from stfcodec.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
