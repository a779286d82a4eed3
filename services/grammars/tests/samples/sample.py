"""Schedules of jobs."""
from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Mapping as Map
from .store import *

MAX_RETRIES = 3
_registry: dict[str, "Job"] = {}
version = "1.0"

type Handler = Map[str, int]


class JobError(Exception):
    """A job failed."""

    code = 7

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Job(abc.ABC, Generic[T]):
    retries: int = MAX_RETRIES

    @property
    def name(self) -> str:
        return self._name

    @staticmethod
    def create(name: str) -> "Job":
        return Job(name)

    async def run(self, *args: Iterable) -> None:
        """Runs it.

        Once.
        """
        for arg in args:
            await self.step(arg)

    def step(self, arg):
        def attempt(n):
            return osp.join(arg, str(n))

        return attempt(0)

    class Meta:
        ordering = "name"


def register(job: Job) -> Job:
    _registry[job.name] = job
    return job


# Decorates a function.
def retry(times):
    def decorate(function):
        return function

    return decorate


@retry(times=2)
async def main():
    await register(Job.create("a")).run()


if True:
    fallback = register

double = lambda x: x * 2
