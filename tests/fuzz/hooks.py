"""What schemathesis is told about this API: which ids exist, how PostgREST's filters look, and which answers are a fault, or not described."""

import atexit
import json
import os
from collections import Counter

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import response_schema_conformance

IDS = os.environ["KIJKO_FUZZ_IDS"].split()
STATUSES = Counter()

# Half of the ids are rows of the test's tenants.
schemathesis.openapi.format("uuid", st.one_of(st.sampled_from(IDS), st.uuids().map(str)))

# What PostgREST reads itself.
OWN = {"select", "order", "limit", "offset", "on_conflict"}


@schemathesis.hook
def flatmap_query(context, query):
    """Most filters and selections are refused before they reach the database. Half of the requests have none, or one for a row that may be there."""
    operation = context.operation
    if not query or not operation.path.startswith("/rest/v1/"):
        return st.just(query)
    if operation.path.startswith("/rest/v1/rpc/"):
        plain = st.just({name: value for name, value in query.items() if name not in OWN})
    elif operation.method.upper() not in ("PATCH", "DELETE"):
        plain = st.just({})
    elif any(parameter.name == "id" for parameter in operation.query):
        plain = st.sampled_from(IDS).map(lambda row: {"id": f"eq.{row}"})
    else:
        return st.just(query)
    return st.one_of(plain, st.just(query))


# Not configured on this stack: a payment provider, vendors of models, a server behind a function.
UNAVAILABLE = {503: ("unavailable", "not_configured"), 502: ("unavailable", "function_unreachable")}


def code_of(response):
    try:
        body = response.json()
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    return error.get("code") if isinstance(error, dict) else body.get("code")


@schemathesis.check
def no_fault(ctx, response, case):
    STATUSES[response.status_code] += 1
    if response.status_code < 500:
        return
    path = case.operation.path
    outside = path.startswith(("/functions/v1/", "/llm/v1/", "/auth/v1/authorize", "/auth/v1/callback"))
    if outside and code_of(response) in UNAVAILABLE.get(response.status_code, ()):
        return
    raise AssertionError(f"{response.status_code} {response.text[:300]}")


@schemathesis.check
def as_described(ctx, response, case):
    # PostgREST answers a write with its rows only if it is asked to.
    if response.content:
        return response_schema_conformance(ctx, response, case)
    return None


@atexit.register
def report():
    with open(os.environ["KIJKO_FUZZ_COUNTS"], "w", encoding="utf-8") as file:
        json.dump({str(status): count for status, count in sorted(STATUSES.items())}, file)
