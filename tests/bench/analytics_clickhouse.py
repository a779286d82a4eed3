"""What ClickHouse (chdb) says of the events of analytics.mjs: funnels by windowFunnel, and retention by a join, as JSON."""

import json
import sys

import chdb

EVENTS = f"file('{sys.argv[1]}', 'CSV', 'person String, at Int64, step UInt8')"
WEEK = 7 * 86400 * 1000000


def rows(query):
    return [json.loads(line) for line in str(chdb.query(query, "JSONCompactEachRow")).splitlines()]


def funnel(mode):
    steps = ", ".join(f"step = {n}" for n in range(1, 6))
    depths = rows(
        f"select depth, toInt32(count()) from (select windowFunnel({WEEK}{mode})(toUInt64(at), {steps}) as depth from {EVENTS} group by person) group by depth"
    )
    return [sum(n for depth, n in depths if depth >= step) for step in range(1, 6)]


def retention():
    done = f"select distinct person, intDiv(at, 86400000000) as day from {EVENTS} where step ="
    counted = rows(
        f"select s.day, r.day - s.day as later, toInt32(count()) from ({done} 1) as s join ({done} 2) as r on r.person = s.person"
        " where r.day >= s.day group by 1, 2 order by 1, 2"
    )
    return [n for _, _, n in counted]


print(json.dumps({"funnel": funnel(""), "strict": funnel(", 'strict_increase'"), "retention": retention()}))
