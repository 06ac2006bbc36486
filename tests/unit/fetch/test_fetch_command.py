"""The command against a small S3 server: requests, sentences, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modelrollout.adapters import download, object_store
from modelrollout.cli.fetch import EXIT_CODES, fetch
from tests.unit.fetch.s3_stub import S3Stub, s3_stub

OBJECTS = {
    "digits/1.4.0/digits/config.pbtxt": b'name: "digits"',
    "digits/1.4.0/digits/1/model.py": b"print()\n" * 1000,
    "digits/1.4.0/digits/1/": b"",
    "digits/1.4.0/digits/1/with space+%41": b"y",
    "digits/1.4.01/digits/1/other.py": b"x",
}
SIGNED = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "word", "AWS_SESSION_TOKEN": "token"}
ANONYMOUS = dict.fromkeys(SIGNED)


def run(
    stub: S3Stub, folder: Path, *more: str, env: dict[str, str | None] | None = None, bucket: str = "models"
) -> Result:
    log = folder / "termination-log"
    log.touch()
    return CliRunner().invoke(
        fetch,
        [
            *("--uri", f"s3://{bucket}/digits/1.4.0", "--to", str(folder / "repository/models")),
            *("--endpoint", stub.endpoint, "--termination-log", str(log), *more),
        ],
        env=ANONYMOUS if env is None else env,
    )


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.0)


def test_fetches_and_tells(tmp_path: Path) -> None:
    with s3_stub(OBJECTS) as stub:
        result = run(stub, tmp_path, "--model", "digits", env=SIGNED)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"fetching s3://models/digits/1.4.0 from {stub.endpoint}"
    assert lines[-2].startswith("3 of 3 files, 0.0 of 0.0 MB (100%)")
    assert lines[-1].startswith("fetched 3 files, 0.0 MB in ")
    assert (tmp_path / "termination-log").read_text() == lines[-1]
    models = tmp_path / "repository/models"
    assert (models / "digits/1/with space+%41").read_bytes() == b"y"
    assert sorted(str(path.relative_to(models)) for path in models.rglob("*") if path.is_file()) == [
        "digits/1/model.py",
        "digits/1/with space+%41",
        "digits/config.pbtxt",
    ]
    for _, _, headers in stub.requests:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
        assert headers["x-amz-security-token"] == "token"


def test_without_credentials_nothing_is_signed(tmp_path: Path) -> None:
    with s3_stub(OBJECTS) as stub:
        assert run(stub, tmp_path).exit_code == 0
    assert stub.requests
    assert not any("authorization" in headers for _, _, headers in stub.requests)


def test_a_connection_that_breaks_is_taken_up_by_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "CHUNK_BYTES", 1)
    with s3_stub(OBJECTS) as stub:
        stub.cut_after = [5, 7]
        result = run(stub, tmp_path, "--workers", "1")
    assert result.exit_code == 0, result.output
    ranges = [wanted for _, wanted in stub.reads() if wanted]
    assert len(ranges) == 2
    assert "try 2 of 8" in result.output
    assert (tmp_path / "repository/models/digits/1/model.py").read_bytes() == OBJECTS["digits/1.4.0/digits/1/model.py"]


def test_a_store_that_does_not_keep_to_ranges_is_read_again_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "CHUNK_BYTES", 1)
    with s3_stub(OBJECTS) as stub:
        stub.cut_after, stub.ranges = [500], False
        result = run(stub, tmp_path, "--workers", "1")
    assert result.exit_code == 0, result.output
    for key in ("digits/config.pbtxt", "digits/1/model.py"):
        assert (tmp_path / "repository/models" / key).read_bytes() == OBJECTS[f"digits/1.4.0/{key}"]


@pytest.mark.parametrize("if_match", [True, False])
def test_an_object_that_changes_after_the_listing_is_not_taken(tmp_path: Path, if_match: bool) -> None:
    key = "digits/1.4.0/digits/1/model.py"
    with s3_stub(OBJECTS) as stub:
        stub.change_before_read, stub.if_match = {key: OBJECTS[key][::-1]}, if_match
        result = run(stub, tmp_path)
    assert result.exit_code == 16, result.output
    assert "was changed while it was fetched" in result.output
    assert not (tmp_path / "repository/models/digits/1/model.py").exists()


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "words"),
    [
        (403, "AccessDenied", 10, "does not allow to list digits/1.4.0 with these credentials: AccessDenied"),
        (403, "InvalidAccessKeyId", 10, "InvalidAccessKeyId"),
        (400, "ExpiredToken", 10, "ExpiredToken"),
        (401, "Unauthorized", 10, "Unauthorized"),
        (301, "PermanentRedirect", 17, "is in another region"),
        (400, "AuthorizationHeaderMalformed", 17, "is in another region"),
        (405, "MethodNotAllowed", 17, "refuses"),
        (503, "SlowDown", 15, "SlowDown"),
        (500, "InternalError", 15, "InternalError"),
    ],
)
def test_refusals_of_the_store(tmp_path: Path, status: int, code: str, exit_code: int, words: str) -> None:
    with s3_stub(OBJECTS) as stub:
        stub.status, stub.code = status, code
        result = run(stub, tmp_path, env=SIGNED)
    assert result.exit_code == exit_code, result.output
    sentence = (tmp_path / "termination-log").read_text()
    assert words in sentence
    assert result.output.splitlines()[-1] == f"error: {sentence}"
    assert "word" not in result.output


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "UnsupportedAlgorithm")])
def test_anonymous_and_denied_says_what_to_do(tmp_path: Path, status: int, code: str) -> None:
    with s3_stub(OBJECTS) as stub:
        stub.status, stub.code = status, code
        result = run(stub, tmp_path)
    assert result.exit_code == 10
    assert "anonymously (spec.model.source names no secretRef)" in result.output


def test_no_such_bucket(tmp_path: Path) -> None:
    with s3_stub(OBJECTS) as stub:
        result = run(stub, tmp_path, bucket="others")
    assert result.exit_code == 11
    assert f"there is no bucket others at {stub.endpoint}" in result.output


def test_nothing_below_the_prefix(tmp_path: Path) -> None:
    with s3_stub({"digits/1.4.01/x": b"x"}) as stub:
        assert run(stub, tmp_path).exit_code == 12


def test_a_key_with_dots_is_refused(tmp_path: Path) -> None:
    with s3_stub(OBJECTS | {"digits/1.4.0/../../../etc/cron.d/x": b"x"}) as stub:
        result = run(stub, tmp_path)
    assert result.exit_code == 14
    assert not (tmp_path / "repository").exists()


def test_nobody_listens(tmp_path: Path) -> None:
    with s3_stub(OBJECTS) as stub:
        pass
    result = run(stub, tmp_path)
    assert result.exit_code == 15
    assert "no answer, or it broke off" in result.output


def test_more_than_the_limit(tmp_path: Path) -> None:
    with s3_stub(OBJECTS) as stub:
        assert run(stub, tmp_path, "--limit", "1Ki").exit_code == 13


@pytest.mark.parametrize("uri", ["gs://models/x", "s3://models", "s3:///x", "models/x", "s3://models/"])
def test_another_uri_is_a_usage_error(tmp_path: Path, uri: str) -> None:
    result = CliRunner().invoke(fetch, ["--uri", uri, "--to", str(tmp_path)])
    assert result.exit_code == 2
    assert "must be s3://<bucket>/<prefix>" in result.output


def test_each_failure_has_an_exit_code_of_its_own_that_the_help_names() -> None:
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    text = " ".join(CliRunner().invoke(fetch, ["--help"]).output.split())
    for code in EXIT_CODES.values():
        assert f"{code} " in text


def test_no_termination_log_is_made_where_there_is_none(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with s3_stub(OBJECTS) as stub:
        run(stub, tmp_path, "--termination-log", str(missing))
    assert not missing.exists()
