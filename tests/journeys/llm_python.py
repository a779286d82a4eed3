"""What PyPI's openai makes of the gateway, step by step. Reads one JSON object, writes one line of JSON for each step."""

import asyncio
import json
import sys

import httpx2
import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

given = json.load(sys.stdin)
MESSAGES = [{'role': 'developer', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Say hello'}]
TOOLS = [
    {
        'type': 'function',
        'function': {
            'name': 'weather',
            'strict': True,
            'parameters': {
                'type': 'object',
                'properties': {'city': {'type': 'string'}},
                'required': ['city'],
                'additionalProperties': False,
            },
        },
    }
]


def report(step, **result):
    print(json.dumps({'step': step, **result}), flush=True)


sent = []


def client_of(key, **options):
    """A client that counts what it sends."""
    http = httpx2.Client(event_hooks={'request': [lambda request: sent.append(str(request.url))]})
    return OpenAI(api_key=key, base_url=given['base_url'], http_client=http, **{'max_retries': 0, **options})


def refused(step, call):
    """How a call is refused, and how many requests that took."""
    sent.clear()
    try:
        call()
    except openai.APIError as error:
        report(
            step,
            error=type(error).__name__,
            status=getattr(error, 'status_code', None),
            code=error.code,
            type=error.type,
            requests=len(sent),
        )
    else:
        report(step, error=None)


client = client_of(given['key'])
models = given['models']

for kind in ['openai', 'anthropic', 'gemini']:
    answer = client.chat.completions.create(model=models[kind], messages=MESSAGES, max_tokens=50)
    report(
        f'chat {kind}',
        object=answer.object,
        content=answer.choices[0].message.content,
        finish=answer.choices[0].finish_reason,
        tokens=[answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens],
    )
    chunks = list(
        client.chat.completions.create(
            model=models[kind], messages=MESSAGES, stream=True, stream_options={'include_usage': True}
        )
    )
    parts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    report(
        f'stream {kind}',
        content=''.join(parts),
        pieces=len(parts) > 1,
        usage=[chunk.usage.total_tokens for chunk in chunks if chunk.usage],
    )

with client.chat.completions.stream(model=models['tools'], messages=MESSAGES, tools=TOOLS) as stream:
    events = [event.type for event in stream]
    message = stream.get_final_completion().choices[0].message
calls = message.tool_calls
report(
    'tools',
    names=[call.function.name for call in calls],
    parsed=[call.function.parsed_arguments for call in calls],
    done=events.count('tool_calls.function.arguments.done'),
)
results = [{'role': 'tool', 'tool_call_id': call.id, 'content': 'rain'} for call in calls]
asked = [
    {'id': call.id, 'type': 'function', 'function': {'name': call.function.name, 'arguments': call.function.arguments}}
    for call in calls
]
answer = client.chat.completions.create(
    model=models['tools'],
    messages=[*MESSAGES, {'role': 'assistant', 'content': None, 'tool_calls': asked}, *results],
    tools=TOOLS,
)
report('results of tools', content=answer.choices[0].message.content)


class Place(BaseModel):
    city: str


answer = client.chat.completions.parse(model=models['structured'], messages=MESSAGES, response_format=Place)
report('structured output', city=answer.choices[0].message.parsed.city)

both = client.embeddings.create(model=models['embeddings'], input=['a', 'b'])
report('embeddings', vectors=[one.embedding for one in both.data], tokens=both.usage.prompt_tokens)
floats = client.embeddings.create(model=models['embeddings'], input='a', encoding_format='float')
report('embeddings as floats', vectors=[one.embedding for one in floats.data])

images = client.images.generate(model=models['images'], prompt='A lighthouse', n=2)
report('images', images=[one.b64_json for one in images.data])

listed = [model.id for model in client.models.list()]
one = client.models.retrieve(given['route'])
report('models', listed=given['route'] in listed, owner=one.owned_by, id=one.id)


async def asynchronously():
    async with AsyncOpenAI(api_key=given['key'], base_url=given['base_url'], max_retries=0) as several:
        asking = [several.chat.completions.create(model=models['openai'], messages=MESSAGES) for _ in range(5)]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*asking)]


report('async', contents=asyncio.run(asynchronously()))


def chat(who, model, **more):
    return lambda: who.chat.completions.create(model=model, messages=MESSAGES, **more)


refused('a wrong key', chat(client_of('kjk_live_nonsense'), models['openai']))
refused('no such model', chat(client, 'no/such-model'))
refused('a field of the vendor', chat(client, models['openai'], service_tier='flex'))
retrying = client_of(given['poor'], max_retries=2)
refused('a spent budget', chat(retrying, models['openai']))
refused('a vendor that is down', chat(client_of(given['key'], max_retries=1), models['down']))
refused('a stream that breaks off', lambda: list(chat(client, models['broken'], stream=True)()))
