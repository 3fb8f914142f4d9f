"""Configurations: defaults, paths, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnagents.agent.config import AgentConfig, Mode, load_config, parse_config
from lnagents.agent.template import render_template
from lnagents.model.errors import ConfigError

LIMITS = """
[limits]
per_payment_msat = 1
per_hour_msat = 2
per_day_msat = 3
max_fee_msat = 4
max_fee_ppm = 5
hint_per_purchase_msat = 6
hint_per_hour_msat = 7
hint_per_day_msat = 8
"""

MINIMAL = (
    """
name = "alice"
data_directory = "data"
[lnd]
address = "127.0.0.1:10009"
tls_certificate = "tls.cert"
macaroon = "/etc/agent.macaroon"
network = "NETWORK"
"""
    + LIMITS
)

SELL_PASSES = '[market.sell]\nservice_port = 1\npricer_port = 2\nproducts = ["pass"]\n'


def _parse(text: str) -> AgentConfig:
    return parse_config(text, Path("/somewhere/agent.toml"))


def test_relative_paths_start_at_the_file() -> None:
    config = _parse(MINIMAL.replace("NETWORK", "regtest"))
    assert config.data_directory == Path("/somewhere/data")
    assert config.lnd.tls_certificate == Path("/somewhere/tls.cert")
    assert config.lnd.macaroon == Path("/etc/agent.macaroon")


@pytest.mark.parametrize(
    ("network", "mode", "dry_run"),
    [
        ("regtest", None, False),
        ("signet", None, True),
        ("mainnet", None, True),
        ("mainnet", Mode.LIVE, False),
        ("regtest", Mode.DRY_RUN, True),
    ],
)
def test_only_regtest_is_live_by_itself(network: str, mode: Mode | None, dry_run: bool) -> None:
    line = f'mode = "{mode.value}"\n' if mode else ""
    config = _parse(line + MINIMAL.replace("NETWORK", network))
    assert config.dry_run is dry_run


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("per_day_msat = 3\n", ""), "limits.per_day_msat: missing"),
        (("per_day_msat = 3", "per_day_msat = -3"), "limits.per_day_msat: input should be"),
        ((LIMITS, ""), "limits: missing"),
        (('"127.0.0.1:10009"', '"127.0.0.1"'), "lnd.address: '127.0.0.1' is not HOST:PORT"),
        (("NETWORK", "moonnet"), "lnd.network: input should be"),
        (("[lnd]", "colour = 1\n[lnd]"), "colour: unknown key"),
        (("[limits]", "[fees]\nmin_ppm = 9\nmax_ppm = 8\n[limits]"), "min_ppm: 9 is above"),
        (("[limits]", "[actor]\nkind = 'dqn'\n[limits]"), "actor.kind: input should be"),
        (("[limits]", "[actor]\nkind = 'trained'\n[limits]"), 'checkpoint: kind "trained" needs'),
        (("[limits]", "[actor]\nkind = 'heuristic'\n[limits]"), "heuristic: needed by kind"),
        (("[limits]", "[actor]\nheuristic = 'wall'\n[limits]"), "heuristic: needed by kind"),
        (
            ("[limits]", "[actor]\nkind = 'heuristic'\nheuristic = 'x'\n[limits]"),
            "actor.heuristic: 'x' is none of lnd-default, ",
        ),
        (
            ("[limits]", SELL_PASSES + "[limits]"),
            'market.sell.products: "pass" needs forwarding.reserved_share above 0',
        ),
        (
            ("[limits]", SELL_PASSES + "[forwarding]\ndeadline_seconds = 1\n[limits]"),
            'market.sell.products: "pass" needs forwarding.reserved_share above 0',
        ),
        (("[limits]", "[forwarding]\nreserved_share = 1\n[limits]"), "forwarding.reserved_share"),
        (("[lnd]", "[lnd"), "not valid TOML"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_key(
    change: tuple[str, str], sentence: str
) -> None:
    text = MINIMAL.replace(*change).replace("NETWORK", "regtest")
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    message = str(caught.value)
    assert message.startswith("/somewhere/agent.toml: ")
    assert sentence in message
    assert "\n" not in message


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read"):
        load_config(tmp_path / "nothing.toml")


def test_the_template_is_a_valid_configuration() -> None:
    text = render_template(
        name='a "quoted" name',
        address="localhost:10009",
        tls_certificate="tls.cert",
        macaroon="agent.macaroon",
        network="signet",
    )
    config = _parse(text)
    assert config.name == 'a "quoted" name'
    assert config.dry_run


def test_the_kinds_of_actors_that_the_template_offers_are_valid() -> None:
    text = render_template(
        name="a", address="h:1", tls_certificate="t", macaroon="m", network="signet"
    )
    plain = text.replace('kind = "ppo"\n', "", 1)
    trained = plain.replace('# kind = "trained"', 'kind = "trained"')
    for key in ("checkpoint", "learn", "agent"):
        trained = trained.replace(f"# {key} = ", f"{key} = ")
    actor = _parse(trained).actor
    assert (actor.kind, actor.learn, actor.agent) == ("trained", False, 0)
    assert actor.checkpoint == Path("/somewhere/runs/mine/checkpoint.pt")
    rules = plain.replace('# kind = "heuristic"', 'kind = "heuristic"')
    actor = _parse(rules.replace("# heuristic = ", "heuristic = ")).actor
    assert actor.heuristic == "proportional"
    requested = text.replace("# on_request", "on_request")
    assert _parse(requested).rounds.on_request
