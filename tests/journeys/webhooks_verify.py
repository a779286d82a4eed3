"""Verifies webhooks as a receiver in Python would. Each line of the input is a JSON object {secret, body, headers}; each line of
the output is the payload, or null if the library refuses it."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    request = json.loads(line)
    try:
        payload = Webhook(request["secret"]).verify(request["body"], request["headers"])
    except WebhookVerificationError:
        payload = None
    print(json.dumps(payload))
