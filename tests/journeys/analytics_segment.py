"""Sends events by PyPI's segment-analytics-python. Reads one JSON object, writes the errors that the client reported."""

import json
import sys

from segment.analytics.client import Client

given = json.load(sys.stdin)
errors = []
client = Client(given['key'], host=given['host'], gzip=True, upload_size=20, max_retries=20, on_error=lambda error, _: errors.append(str(error)))
for n in range(given['events']):
    client.track(user_id=f'user-{n % 20}', event=given['name'], properties={'n': n})
client.shutdown()
print(json.dumps(errors))
