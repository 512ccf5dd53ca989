"""What the generated requests must know of this API and its document cannot tell them."""

import json

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    # A valid claim may wait a minute for a task. That it does is tested in the suite; here, with
    # hundreds of claims, it would only cost the minutes. Invalid values go out as they are.
    body = case.body
    if isinstance(body, dict) and type(body.get("waitSeconds")) is int and 0 < body["waitSeconds"] <= 60:
        body["waitSeconds"] = 0
    # A stream of many tasks does not end, but where it is asked not to wait. Invalid values go out as they are.
    if case.path == "/api/v1/events":
        follow = (case.query or {}).get("follow", [])
        follow = follow if isinstance(follow, list) else [follow]
        if all(str(value).lower() in ("true", "false") for value in follow):
            case.query = {**(case.query or {}), "follow": "false"}


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    # One line for each entry; what is not a list is sent as the one line, right or wrong.
    if isinstance(value, (str, bytes)):
        return value
    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines)
