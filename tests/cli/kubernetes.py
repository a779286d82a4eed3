"""Checks the resources on stdin by the schemas of Kubernetes and of CloudNativePG, and prints a line for each fault.

A field that no schema knows is a fault, although a cluster may ignore it: it is a typing error."""

import json
import pathlib
import sys

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator

VERSION = "1.33"
CUSTOM = pathlib.Path(__file__).parent.parent / "fixtures" / "cloudnative_pg.json"


def closed(schema):
    """The schema, with unknown fields refused wherever it lists the known ones."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        copy["additionalProperties"] = False
    return copy


def faults(resource, custom):
    if resource["apiVersion"] == "postgresql.cnpg.io/v1":
        for error in Draft202012Validator(custom[resource["kind"]]).iter_errors(resource):
            yield f"{error.json_path}: {error.message}"
        return
    try:
        kubernetes_validate.validate(resource, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield error.message
    except kubernetes_validate.SchemaNotFoundError:
        yield f"no schema of Kubernetes {VERSION} knows {resource['apiVersion']} {resource['kind']}"


def main():
    custom = {kind: closed(schema) for kind, schema in json.loads(CUSTOM.read_text()).items() if kind != "//"}
    found = False
    for resource in yaml.safe_load_all(sys.stdin):
        for fault in faults(resource, custom):
            found = True
            print(f"{resource['kind']} {resource['metadata']['name']}: {fault}")
    sys.exit(1 if found else 0)


main()
