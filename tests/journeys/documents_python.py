"""What PyPI's kotadb-client does with documents. Reads {"url", "key"} from standard input, prints one line of JSON for each step."""

import json
import sys

from kotadb import DocumentBuilder, KotaDB, UpdateBuilder
from kotadb.exceptions import NotFoundError, ServerError

given = json.load(sys.stdin)


def report(step, **result):
    print(json.dumps({"step": step, **result}), flush=True)


db = KotaDB(given["url"], retries=0)
try:
    db.list_all()
except ServerError as error:
    report("unauthenticated", status=error.status_code)
db.session.headers["Authorization"] = f"Bearer {given['key']}"
report("health", status=db.test_connection()["status"])

made = db.insert({"path": "notes/fox.md", "title": "Fox", "content": "A brown fox: caf\u00e9", "tags": ["plan"], "metadata": {"a": 1}})
builder = DocumentBuilder().path("notes/dog.md").title("Dog").content("A lazy dog")
other = db.insert_with_builder(builder)
document = db.get(made)
report("get", path=document.path, content=document.content, tags=document.tags, metadata=document.metadata, size=document.size)

found = db.query("fox")
report("query", ids=[each.id for each in found.results], total=found.total_count, content=found.results[0].content)
report("by_tag", paths=[each.path for each in db.query("a", tag="plan").results])
report("nothing", total=db.query("unicorn").total_count)
report("list", paths=sorted(each.path for each in db.list_all()), page=len(db.list_all(limit=1, offset=1)))

changed = db.update_with_builder(made, UpdateBuilder().content("A red fox").add_tag("red"))
report("update", content=changed.content, tags=sorted(changed.tags), title=changed.title)
try:
    db.insert({"path": "notes/dog.md", "title": "Again", "content": ""})
except ServerError as error:
    report("same_path", status=error.status_code)
db.delete(other)
try:
    db.get(other)
except NotFoundError:
    report("deleted", left=[each.path for each in db.list_all()])
for unknown in ("00000000-0000-4000-8000-000000000000", "nonsense"):
    try:
        db.delete(unknown)
    except NotFoundError:
        report(f"unknown_{unknown[:3]}")
for step, call in {"semantic": lambda: db.semantic_search("fox"), "hybrid": lambda: db.hybrid_search("fox"), "stats": db.stats}.items():
    try:
        call()
    except ServerError as error:
        body = json.loads(error.response_body)
        report(step, status=error.status_code, code=body["error_type"], hints=len(body["suggestions"]))
