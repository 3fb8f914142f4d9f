"""Our .proto files say what those of the pinned LND say: names, numbers, types, calls."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from lnagents.testbed.toolchain.golang import needed_go, provide_go
from lnagents.testbed.toolchain.processes import run_program
from lnagents.testbed.toolchain.progress import silent

ROOT = Path(__file__).parents[3]
PINNED = ROOT / "regtest" / "toolchain" / "lnd"
MODULE = "github.com/lightningnetwork/lnd"
THEIR_FILES = (
    "lightning.proto",
    "stateservice.proto",
    "invoicesrpc/invoices.proto",
    "routerrpc/router.proto",
)


def compile_protos(proto_path: str, names: list[str], target: Path) -> FileDescriptorSet:
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={proto_path}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={target}",
            "--include_imports",
            *names,
        ]
    )
    assert status == 0, f"protoc refused {names}"
    return FileDescriptorSet.FromString(target.read_bytes())


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    virtual = "lnagents/lnd/stubs"
    folder = ROOT / "protos" / "lnd"
    names = [f"{virtual}/{path.name}" for path in sorted(folder.glob("*.proto"))]
    assert names
    target = tmp_path_factory.mktemp("ours") / "descriptors"
    return compile_protos(f"{virtual}={folder}", names, target)


@pytest.fixture(scope="session")
async def theirs(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    """From the module in Go's module cache, fetched and verified by Go if it is not there yet."""
    go, environment = await provide_go(needed_go((PINNED / "go.mod").read_text()), silent)
    answer = await run_program(
        *(str(go), "mod", "download", "-json", MODULE),
        timeout=600.0,
        environment=environment | {"GOTOOLCHAIN": "local", "GOWORK": "off"},
        directory=PINNED,
    )
    folder = Path(json.loads(answer)["Dir"]) / "lnrpc"
    target = tmp_path_factory.mktemp("theirs") / "descriptors"
    return compile_protos(str(folder), list(THEIR_FILES), target)


class Index:
    """Everything of a set of files by its full name."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self.services: dict[str, ServiceDescriptorProto] = {}
        for file in descriptors.file:
            for message in file.message_type:
                self._add(file.package, message)
            for enum in file.enum_type:
                self.enums[f"{file.package}.{enum.name}"] = enum
            for service in file.service:
                self.services[f"{file.package}.{service.name}"] = service

    def _add(self, scope: str, message: DescriptorProto) -> None:
        name = f"{scope}.{message.name}"
        self.messages[name] = message
        for nested in message.nested_type:
            self._add(name, nested)
        for enum in message.enum_type:
            self.enums[f"{name}.{enum.name}"] = enum


def field_facts(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    """All of a field that decides what is on the wire and how it is read."""
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
    kind = FieldDescriptorProto.Type.Name(field.type)
    label = FieldDescriptorProto.Label.Name(field.label)
    jstype = field.options.jstype
    return field.number, kind, field.type_name, label, oneof, field.proto3_optional, jstype


def method_facts(method: MethodDescriptorProto) -> tuple[object, ...]:
    return (
        method.input_type,
        method.output_type,
        method.client_streaming,
        method.server_streaming,
    )


def differences(ours: FileDescriptorSet, theirs: FileDescriptorSet) -> Iterator[str]:
    """Every way in which what we have differs from what they have under the same name."""
    our, their = Index(ours), Index(theirs)
    for name, message in our.messages.items():
        counterpart = their.messages.get(name)
        if counterpart is None:
            yield f"message {name} is not theirs"
            continue
        fields = {field.name: field for field in counterpart.field}
        for field in message.field:
            same = fields.get(field.name)
            if same is None:
                yield f"field {name}.{field.name} is not theirs"
            elif field_facts(message, field) != field_facts(counterpart, same):
                facts = field_facts(message, field), field_facts(counterpart, same)
                yield f"field {name}.{field.name}: {facts[0]}, theirs {facts[1]}"
            elif same.options.deprecated:
                yield f"field {name}.{field.name} is deprecated"
    for name, enum in our.enums.items():
        other = their.enums.get(name)
        if other is None:
            yield f"enum {name} is not theirs"
            continue
        # All of them: a value that we left out could not be named when it comes.
        values = {value.name: value.number for value in enum.value}
        if values != {value.name: value.number for value in other.value}:
            yield f"enum {name} has other values"
    for name, service in our.services.items():
        counter_service = their.services.get(name)
        if counter_service is None:
            yield f"service {name} is not theirs"
            continue
        methods = {method.name: method for method in counter_service.method}
        for method in service.method:
            if method.name not in methods:
                yield f"call {name}.{method.name} is not theirs"
            elif method_facts(method) != method_facts(methods[method.name]):
                yield f"call {name}.{method.name} differs"


def test_ours_is_a_part_of_theirs(ours: FileDescriptorSet, theirs: FileDescriptorSet) -> None:
    index = Index(ours)
    services = {"lnrpc.Lightning", "lnrpc.State", "invoicesrpc.Invoices", "routerrpc.Router"}
    assert services == index.services.keys()
    assert {"lnrpc.PolicyUpdateRequest", "routerrpc.SendToRouteRequest"} <= index.messages.keys()
    assert list(differences(ours, theirs)) == []


def find_message(descriptors: FileDescriptorSet, name: str) -> DescriptorProto:
    return Index(descriptors).messages[name]


def test_the_comparison_notices_every_kind_of_difference(
    ours: FileDescriptorSet, theirs: FileDescriptorSet
) -> None:
    def with_change(**changes: object) -> list[str]:
        changed = copy.deepcopy(ours)
        field = find_message(changed, "lnrpc.Hop").field[0]
        for key, value in changes.items():
            setattr(field, key, value)
        return list(differences(changed, theirs))

    for changes in (
        {"number": 99},
        {"type": FieldDescriptorProto.TYPE_INT64},
        {"label": FieldDescriptorProto.LABEL_REPEATED},
        {"name": "channel"},
    ):
        assert len(with_change(**changes)) == 1, changes

    changed = copy.deepcopy(ours)
    find_message(changed, "lnrpc.Hop").name = "Leap"
    assert "message lnrpc.Leap is not theirs" in list(differences(changed, theirs))

    changed = copy.deepcopy(ours)
    del Index(changed).enums["lnrpc.Failure.FailureCode"].value[-1]
    assert list(differences(changed, theirs)) == ["enum lnrpc.Failure.FailureCode has other values"]

    changed = copy.deepcopy(ours)
    call = Index(changed).services["routerrpc.Router"].method[0]
    call.server_streaming = False
    assert list(differences(changed, theirs)) == [f"call routerrpc.Router.{call.name} differs"]
    call.name = "SendPaymentV9"
    assert list(differences(changed, theirs)) == [
        "call routerrpc.Router.SendPaymentV9 is not theirs"
    ]
