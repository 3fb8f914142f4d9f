from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from lnagents.model.errors import ConfigError, InputError, LnagentsError
from lnagents.model.files import StrictModel, parse_toml, parse_yaml, validate


class Inner(StrictModel):
    size: Annotated[int, Field(gt=0)]


class Outer(StrictModel):
    title: str = ""
    inner: tuple[Inner, ...] = ()

    @field_validator("title")
    @classmethod
    def _quiet(cls, title: str) -> str:
        if title.isupper():
            raise ValueError("no shouting")
        return title

    @model_validator(mode="after")
    def _few(self) -> Outer:
        if len(self.inner) > 2:
            raise ValueError("inner: more than two")
        return self


def test_toml_and_yaml_give_the_same() -> None:
    expected = Outer(title="x", inner=(Inner(size=1), Inner(size=2)))
    toml = 'title = "x"\n[[inner]]\nsize = 1\n[[inner]]\nsize = 2\n'
    assert parse_toml(toml, "f.toml", Outer, ConfigError) == expected
    text = "title: x\ninner: [{size: 1}, {size: 2}]"
    assert parse_yaml(text, "f.yaml", Outer, ConfigError) == expected


def test_what_was_read_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Inner(size=1).size = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"titel": "x"}, "f: titel: unknown key"),
        ({"inner": [{"size": 1}, {}]}, "f: inner[1].size: missing"),
        ({"inner": [{"size": -1}]}, "f: inner[0].size: input should be greater than 0, got -1"),
        ({"title": "HO"}, "f: title: no shouting"),
        ({"inner": [{"size": 1}] * 3}, "f: inner: more than two"),
        ([], "f: the file: input should be a valid dictionary or instance of Outer"),
        ({"title": {}}, "f: title: input should be a valid string"),
    ],
)
def test_problems_are_one_sentence_with_file_and_key(data: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(data, "f", Outer, ConfigError)
    assert str(caught.value) == sentence


def test_broken_toml_tells_where() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml("a = \n", "f.toml", Outer, ConfigError)
    assert str(caught.value).startswith("f.toml: not valid TOML, ")
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "a: [", "\x00"])
def test_yaml_that_is_broken_or_runs_code_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml: .*not valid YAML"):
        parse_yaml(text, "f.yaml", Outer, ConfigError)


def test_the_tree_of_errors_says_what_ends_with_exit_code_2() -> None:
    assert issubclass(ConfigError, InputError)
    assert issubclass(InputError, LnagentsError)
