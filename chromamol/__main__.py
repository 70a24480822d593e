"""`python -m chromamol` and the `chromamol` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from chromamol.cli import app  # noqa: PLC0415 - importing this module must stay without effect

    app(prog_name="chromamol")


if __name__ == "__main__":
    main()
