"""Tell whether this Python's environment holds what files of requirements pin: make asks."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main() -> None:
    pins = [
        line.split()[0]
        for file in sys.argv[1:]
        for line in Path(file).read_text(encoding="utf-8").splitlines()
        if "==" in line
    ]
    missing = [pin for pin in pins if not is_installed(*pin.split("=="))]
    if missing:
        others = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        sys.exit(f"it lacks {', '.join(missing[:3])}{others} of {' and '.join(sys.argv[1:])}")
    script = Path(sys.prefix, "bin/dvc")
    interpreter = script.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!")
    if not Path(interpreter).exists():
        sys.exit(f"it was moved here: its dvc wants {interpreter}")


def is_installed(name: str, wanted: str) -> bool:
    try:
        return version(name).partition("+")[0] == wanted  # torch adds +cpu
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
