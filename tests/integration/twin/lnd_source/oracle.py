"""Builds `oracle_test.go` into LND's package `routing`, and asks it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnagents.testbed.toolchain.golang import BUILD_SECONDS, RECIPES, needed_go, provide_go
from lnagents.testbed.toolchain.programs import Product
from lnagents.testbed.toolchain.progress import silent

SOURCE = Path(__file__).with_name("oracle_test.go")
ANSWER_SECONDS = 120.0


class Oracle:
    """What LND's code answers to scenarios; see the types in `oracle_test.go`."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory

    @classmethod
    async def build(cls, directory: Path) -> Oracle:
        """Compile it in `directory`: some 100 CPU-seconds at first, then Go's cache has most."""
        recipe = RECIPES[Product.LND]
        pins = recipe.directory
        go, environment = await provide_go(needed_go((pins / "go.mod").read_text()), silent)
        environment = os.environ | environment | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}

        def run(*arguments: str, where: Path) -> str:
            return subprocess.run(
                [str(go), *arguments],
                cwd=where,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
            ).stdout.strip()

        run("mod", "download", recipe.module, where=pins)
        module = Path(run("list", "-m", "-f", "{{.Dir}}", recipe.module, where=pins))
        # Go refuses to add files to modules where it keeps them.
        copy = directory / "lnd"
        shutil.copytree(module, copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        package = copy / "routing"
        for test in package.glob("*_test.go"):
            test.unlink()
        shutil.copy(SOURCE, package)
        program = directory / "oracle"
        tags = f"-tags={','.join(recipe.tags)}"
        options = ("-c", "-trimpath", "-buildvcs=false", tags, "-o", str(program))
        run("test", *options, "./routing", where=copy)
        return cls(program, directory)

    def ask(self, scenarios: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer per scenario."""
        questions = self._directory / "questions.json"
        answers = self._directory / "answers.json"
        questions.write_text(json.dumps(scenarios))
        subprocess.run(
            [str(self._program), "-test.run=TestOracle"],
            env=os.environ | {"ORACLE_QUESTIONS": str(questions), "ORACLE_ANSWERS": str(answers)},
            check=True,
            capture_output=True,
            timeout=ANSWER_SECONDS,
        )
        found: list[dict[str, Any]] = json.loads(answers.read_text())
        return found
