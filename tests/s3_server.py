"""An S3 server on the loopback, with users and their rights, for tests of storages."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

ALL = ("test", "test")
"""Keys of somebody who may do anything."""

_NUMBERS = count()


class S3Server:
    """A server of moto. Buckets and objects are made by boto3, as programs of others make them."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"

    def stop(self) -> None:
        self._server.stop()

    def client(self, service: str = "s3") -> Any:
        import boto3

        key, secret = ALL
        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )

    def bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{next(_NUMBERS)}"
        self.client().create_bucket(Bucket=name)
        return name

    def user(self, *actions: str) -> tuple[str, str]:
        """The keys of a new user who may do some actions alone, such as s3:GetObject."""
        iam, name = self.client("iam"), f"user-{next(_NUMBERS)}"
        iam.create_user(UserName=name)
        rights = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rights]})
        iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    @contextmanager
    def checking_rights(self) -> Iterator[None]:
        """Inside, users may do only what they have the right to."""
        self._check_after("0")
        try:
            yield
        finally:
            self._check_after("inf")

    def _check_after(self, requests: str) -> None:
        url = f"{self.url}/moto-api/reset-auth"
        with urllib.request.urlopen(
            urllib.request.Request(url, requests.encode(), {"Content-Type": "text/plain"})
        ):
            pass


def sign_in(monkeypatch: pytest.MonkeyPatch, url: str, keys: tuple[str, str] | None) -> None:
    """Set address and credentials for S3 as a user does; None: there are no credentials."""
    from s3fs import S3FileSystem

    from stfcodec import storage

    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"), keys or (), strict=False):
        monkeypatch.setenv(f"AWS_{name}", value)
    if keys is None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    storage._file_system.cache_clear()
    S3FileSystem.clear_instance_cache()
