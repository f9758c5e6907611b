"""Laws of searches whose storage is a URL: all that a resume needs is there, one driver writes it, nothing is lost."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import evaluations
import promotable
import pytest
import torch
from broken import LONG_S, Alone, expected_points, kill, require_nothing_lost, wait_until, when
from bucket import SECRETS, USER, Bucket, running_bucket
from finished import Finished, call, registered
from proxy import FaultyProxy, free_port
from pyarrow import fs
from ray import cloudpickle
from server import MlflowServer
from tiny import make_tiny

import search.promote
import search.report
import search.storage.remote.lease
import search.storage.remote.mirror
from search.errors import NameTakenError, UsageError
from search.storage.event_log import read_entries
from search.storage.location import Storage, StoragePath, explanation
from search.storage.remote.lease import Lease
from search.storage.remote.mirror import Mirror
from search.storage.remote.session import remote_session
from search.storage.search_dir import SearchDir
from trainables.runtime.object_store import is_away

GROWING = ("journal", "study")


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials in the environment, and a folder to work in."""
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "MLFLOW_TRACKING_URI", "SEARCH_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEARCH_WORK", str(tmp_path / "work"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoragePath:
    monkeypatch.setattr(search.storage.remote.mirror, "_PAUSE_FACTOR", 0.0)
    return StoragePath(fs.LocalFileSystem(), str(tmp_path / "there"), "test://there")


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:geheim@bucket/results",
        "s3://geheim@bucket/results",
        "s3://AKIAKEY:12/geheim@bucket/results",
        "s3://AKIAKEY:ge/heim@geheim@bucket/results",
        "s3://bucket/results?secret_key=geheim",
        "s3://bucket/results?region=a&access_key=geheim",
        "abfss://container:geheim@account.dfs.core.windows.net/results",
        "sftp://me:geheim@host/results",
        "s3://bucket/results?X-Amz-Signature=geheim",
    ],
)
def test_no_password_may_stand_in_a_url(url: str) -> None:
    code, text = call(make_tiny(), "tiny", "--storage", url, "--tracking-uri", "http://127.0.0.1:1")
    assert code == 2
    assert "Take it out" in text
    assert "geheim" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("url", ["abfss://container@account.dfs.core.windows.net/results", "gs://anonymous@bucket/a"])
def test_what_looks_like_a_user_and_is_none_is_taken(url: str) -> None:
    assert Storage(url).url == url


def test_a_folder_is_a_folder_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in ("here", tmp_path / "here", f"file://{tmp_path}/here"):
        storage = Storage(words)
        assert (storage.url, storage.folder) == ("", tmp_path / "here")
        assert storage.root.path == str(tmp_path / "here")


def test_a_url_needs_a_server_for_mlflow(bucket: Bucket) -> None:
    code, text = call(make_tiny(), "tiny", "--storage", bucket.url("none"))
    assert (code, "--tracking-uri" in text, text.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hf://someone/somewhere", "pip install huggingface_hub"),
        ("sftp://host/somewhere", "paramiko"),
        ("nothing://a/b", "no file system"),
        ("s3://bucket/a?unknown=1&region=a", "no file system"),
    ],
)
def test_a_file_system_that_is_not_there_is_reported(url: str, said: str) -> None:
    code, text = call(make_tiny(), "tiny", "--storage", url, "--tracking-uri", "http://127.0.0.1:1")
    assert (code, said in text, text.count("\n")) == (2, True, 1), text


def test_a_bucket_that_is_not_there_is_reported(bucket: Bucket) -> None:
    url = bucket.url("a").replace("s3://searches", "s3://serches")
    code, text = call(make_tiny(), "tiny", "--storage", url, "--tracking-uri", "http://127.0.0.1:1")
    assert (code, "no such bucket" in text, text.count("\n")) == (2, True, 1), text


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_reported(bucket: Bucket) -> None:
    url = bucket.url("a", free_port())
    code, text = call(make_tiny(), "tiny", "--storage", url, "--tracking-uri", "http://127.0.0.1:1")
    assert (code, "it cannot be used" in text, text.count("\n")) == (2, True, 1), text


def test_a_store_that_refuses_the_key_is_reported_without_it(tmp_path: Path) -> None:
    with running_bucket(tmp_path) as closed:
        closed.require_keys()
        code, text = call(make_tiny(), "tiny", "--storage", closed.url("a"), "--tracking-uri", "http://127.0.0.1:1")
    assert (code, "Credentials come from" in text, text.count("\n")) == (2, True, 1), text
    assert not any(secret in text for secret in SECRETS.values())


def test_without_a_key_the_message_says_where_it_comes_from(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto cannot say no to a request without a signature: the proxy says what AWS would say."""
    for name in SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with FaultyProxy(bucket.uri) as proxy:
        proxy.answer_error(403)
        url = bucket.url("a", proxy.port)
        code, text = call(make_tiny(), "tiny", "--storage", url, "--tracking-uri", "http://127.0.0.1:1")
    assert (code, "Credentials come from" in text, text.count("\n")) == (2, True, 1), text


def test_the_folder_to_work_in_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Storage("s3://bucket/a").folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert Storage("s3://bucket/a").folder == folder != Storage("s3://bucket/b").folder
    folder.chmod(0o755)
    with pytest.raises(UsageError, match="others can enter"):
        _ = Storage("s3://bucket/a").folder
    folder.chmod(0o700)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://elsewhere")
    assert Storage("s3://bucket/a").folder != folder
    monkeypatch.delenv("SEARCH_WORK")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Storage("s3://bucket/a").folder.parent == tmp_path / f"search-{os.getuid()}"
    assert stat.S_IMODE((tmp_path / f"search-{os.getuid()}").stat().st_mode) == 0o700
    shutil.rmtree(tmp_path / f"search-{os.getuid()}")
    (tmp_path / f"search-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="others can enter"):
        _ = Storage("s3://bucket/a").folder


def test_a_place_in_a_url_keeps_its_query(bucket: Bucket) -> None:
    there = Storage(bucket.url("a")).root.joinpath("b", "c")
    assert there.path == "searches/a/b/c"
    assert there.url == bucket.url("a/b/c")


@pytest.mark.parametrize("spelled", ["query", "environment"])
def test_what_is_written_to_a_bucket_is_there(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.uri)
    url = f"s3://{bucket.NAME}/{spelled}" + ("?region=us-east-1" if spelled == "environment" else "")
    there = Storage(bucket.url(spelled) if spelled == "query" else url).root
    assert (there.read("a"), there.entries()) == (None, {})
    there.write("a", b"1")
    there.write("b/c", b"22")
    assert bucket.objects(spelled) == {"a": b"1", "b/c": b"22"}
    assert (there.read("b/c"), sorted(there.entries()), sorted(there.entries(recursive=True))) == (
        b"22", ["a", "b"], ["a", "b", "b/c"],
    )  # fmt: skip
    there.delete("a")
    there.delete("a")
    assert sorted(bucket.objects(spelled)) == ["b/c"]


# ---------------------------------------------------------------- the copy of the small files


class Machine:
    """A folder with files that grow, on one machine, and its mirror."""

    def __init__(self, folder: Path, place: StoragePath) -> None:
        self.folder, self.lines = folder, list[str]()
        folder.mkdir(exist_ok=True)
        self.mirror = Mirror(folder, place, GROWING, self.lines.append)

    def add(self, text: str, *names: str) -> None:
        for name in names or GROWING:
            with (self.folder / name).open("a") as file:
                file.write(text)

    def put(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def files(self) -> dict[str, str]:
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_text() for path in found}


def test_another_machine_finds_what_was_there(
    tmp_path: Path, place: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.storage.remote.mirror, "BLOCK_BYTES", 10)
    one = Machine(tmp_path / "one", place)
    one.put("search.json", "about")
    one.put("outbox/1f/report/table.csv", "table")
    for part in ("a\n", "b\n" * 4, "c\n" * 30, "", "d\n"):
        one.add(part)
        assert one.mirror.push()
        other = Machine(tmp_path / f"other{part.strip()[:1]}{len(part)}", place)
        other.mirror.fetch()
        assert other.files() == one.files()
        assert other.mirror.copied_bytes("journal") == len(one.files()["journal"])
    assert len(place.joinpath("journal").entries()) == 8


def test_only_what_changed_is_sent(tmp_path: Path, place: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.storage.remote.mirror, "BLOCK_BYTES", 10)
    one, sent = Machine(tmp_path / "one", place), list[str]()
    monkeypatch.setattr(StoragePath, "write", lambda _self, name, _data: sent.append(name))
    one.put("search.json", "about")
    one.add("x" * 25)
    one.mirror.push()
    assert sent == ["search.json", *(f"study/{n:06d}" for n in range(3)), *(f"journal/{n:06d}" for n in range(3))]
    sent.clear()
    one.add("y", "journal")
    one.put("search.json", "about this")
    one.mirror.push(everything=False)
    assert sent == ["journal/000002"]
    one.mirror.push()
    assert sent == ["journal/000002", "search.json"]


def test_what_is_this_machines_own_or_half_written_is_not_sent(tmp_path: Path, place: StoragePath) -> None:
    one = Machine(tmp_path / "one", place)
    for name in ("lock", "owner.json", "study.lock", ".report.html.5.tmp", "journal.damaged", "journal.lost"):
        one.put(name, "own")
    one.put("report.html", "page")
    one.mirror.push()
    assert sorted(place.entries()) == ["report.html"]


def test_what_was_exported_is_deleted_there_too(tmp_path: Path, place: StoragePath) -> None:
    one = Machine(tmp_path / "one", place)
    one.add("a\n")
    one.put("outbox/1f/a", "a")
    one.mirror.push()
    other = Machine(tmp_path / "other", place)
    other.mirror.fetch()
    shutil.rmtree(other.folder / "outbox")
    other.mirror.push()
    assert [name for name, info in place.entries(recursive=True).items() if info.type == fs.FileType.File] == [
        "journal/000000", "study/000000",
    ]  # fmt: skip


def test_a_machine_that_is_ahead_keeps_what_it_has(tmp_path: Path, place: StoragePath) -> None:
    """After the store was away to the end."""
    one = Machine(tmp_path / "one", place)
    one.add("a\n")
    one.put("search.json", "old")
    one.mirror.push()
    one.add("b\n", "study")
    one.put("search.json", "new")
    one.put("leaderboard.json", "new")
    before, again = one.files(), Machine(one.folder, place)
    again.mirror.fetch()
    assert again.files() == before
    again.mirror.push()
    other = Machine(tmp_path / "other", place)
    other.mirror.fetch()
    assert other.files() == before


def test_a_machine_that_is_behind_takes_over_everything(tmp_path: Path, place: StoragePath) -> None:
    one = Machine(tmp_path / "one", place)
    one.add("a\n")
    one.put("leaderboard.json", "old")
    one.put("outbox/1f/a", "old")
    one.put("lock", "own")
    one.mirror.push()
    other = Machine(tmp_path / "other", place)
    other.mirror.fetch()
    other.add("b\n")
    (other.folder / "leaderboard.json").unlink()
    shutil.rmtree(other.folder / "outbox")
    other.mirror.push()
    again = Machine(one.folder, place)
    again.mirror.fetch()
    assert again.files() == other.files() | {"lock": "own"}


def test_a_machine_that_diverged_takes_over_the_copy_and_loses_nothing(tmp_path: Path, place: StoragePath) -> None:
    one = Machine(tmp_path / "one", place)
    one.add("a\n")
    one.mirror.push()
    other = Machine(tmp_path / "other", place)
    other.mirror.fetch()
    one.add("never arrived, and longer\n", "journal")
    other.add("b\n")
    other.mirror.push()
    again = Machine(one.folder, place)
    again.mirror.fetch()
    assert again.files() == other.files() | {"journal.lost": "a\nnever arrived, and longer\n"}


@pytest.mark.slow
def test_a_store_that_is_away_costs_nothing_and_gets_it_all_later(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.storage.remote.mirror, "_PAUSE_FACTOR", 0.0)
    with FaultyProxy(bucket.uri) as proxy:
        there = Storage(bucket.url("away", proxy.port)).root
        one = Machine(tmp_path / "one", there)
        one.add("a\n")
        assert one.mirror.push()
        proxy.refuse()
        one.add("b\n")
        one.put("search.json", "about")
        assert not one.mirror.push()
        assert not one.mirror.push()
        assert (one.mirror.copied_bytes("journal"), one.mirror.behind) == (2, True)
        proxy.pass_through()
        one.add("not marked yet\n")
        one.mirror.catch_up()
        assert bucket.objects("away") == {
            "journal/000000": b"a\nb\n", "study/000000": b"a\nb\n", "search.json": b"about",
        }  # fmt: skip
    assert [line.partition(" (")[0] for line in one.lines] == [
        f"storage  {there} does not answer", "storage  answers again; what waited is there",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_slow_store_takes_a_fifth_of_the_time_at_most(
    tmp_path: Path, place: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the thread that runs the search; nothing is forgotten."""
    monkeypatch.setattr(search.storage.remote.mirror, "_PAUSE_FACTOR", 4.0)
    written = StoragePath.write

    def slowly(self: StoragePath, name: str, data: bytes) -> None:
        time.sleep(0.05)
        written(self, name, data)

    monkeypatch.setattr(StoragePath, "write", slowly)
    one, started, pushing = Machine(tmp_path / "one", place), time.monotonic(), 0.0
    while time.monotonic() - started < 3:
        one.add("x\n")
        before = time.monotonic()
        one.mirror.push(everything=False)
        pushing += time.monotonic() - before
        time.sleep(0.005)
    assert 0.1 < pushing < 0.3 * 3
    wait_until(lambda: one.mirror.due or not one.mirror.behind, "its turn", 5)
    one.mirror.catch_up()
    assert not one.mirror.behind
    assert place.read("journal/000000") == (one.folder / "journal").read_bytes()


@pytest.mark.slow
def test_errors_that_pass_are_distinguished_from_those_that_do_not(bucket: Bucket) -> None:
    there = Storage(bucket.url("a", free_port())).root
    with pytest.raises(OSError, match="connect") as caught:
        there.read("b")
    assert is_away(caught.value, there.files)
    assert explanation(caught.value).startswith(
        "it cannot be used (AWS Error NETWORK_CONNECTION during HeadObject operation"
    )
    assert not is_away(caught.value, fs.LocalFileSystem())
    assert not is_away(FileNotFoundError(), there.files)
    assert not is_away(PermissionError(), there.files)
    assert not is_away(ValueError(), there.files)
    assert not is_away(OSError("AWS Error ACCESS_DENIED during PutObject"), there.files)
    assert is_away(OSError("AWS Error SLOW_DOWN during PutObject"), there.files)


# ---------------------------------------------------------------- the lease


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_LEASE_S", "3")
    monkeypatch.setattr(search.storage.remote.lease, "CONFIRM_S", 0.1)
    monkeypatch.setattr(search.storage.remote.lease, "_POLL_S", 0.1)


@pytest.mark.usefixtures("short_lease")
class TestLease:
    def test_only_one_of_many_that_come_together_gets_it(self, bucket: Bucket) -> None:
        there, got = Storage(bucket.url("together")).root, list[str]()

        def come() -> None:
            try:
                Lease(there, "x").acquire("", False, got.append)
                got.append("yes")
            except NameTakenError:
                got.append("no")

        threads = [threading.Thread(target=come) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == ["no", "no", "no", "yes"]

    def test_a_later_driver_reads_which_process_has_it(self, bucket: Bucket) -> None:
        there = Storage(bucket.url("later")).root
        first = Lease(there, "x")
        first.acquire("", False, print)
        with pytest.raises(NameTakenError, match=rf"running now: process {os.getpid()} on .*resumed in [123] s"):
            Lease(there, "x").acquire("", False, print)
        first.release()
        Lease(there, "x").acquire("", False, print)

    @pytest.mark.slow
    def test_a_dead_one_is_waited_out(self, bucket: Bucket) -> None:
        there, lines = Storage(bucket.url("dead")).root, list[str]()
        Lease(there, "x").acquire("", False, print)
        started = time.monotonic()
        Lease(there, "x").acquire("", True, lines.append)
        assert 1 < time.monotonic() - started < 60
        (line,) = lines
        assert "waiting up to 3 s" in line

    def test_one_that_died_on_this_machine_need_not_be(self, bucket: Bucket) -> None:
        there = Storage(bucket.url("own")).root
        first = Lease(there, "x")
        first.acquire("", False, print)
        Lease(there, "x").acquire(first.id, False, print)

    @pytest.mark.slow
    def test_one_that_lives_is_not_taken_from_it(self, bucket: Bucket, tmp_path: Path) -> None:
        there = Storage(bucket.url("lives")).root
        (tmp_path / "x").mkdir()
        how: dict[str, Any] = {"former_lease": "", "wait": False, "say": print, "on_taken_over": print}
        with remote_session(tmp_path / "x", there, **how):
            time.sleep(4)  # longer than it lasts unless it is renewed
            with pytest.raises(NameTakenError, match="is running now"):
                Lease(there, "x").acquire("", True, print)
        assert bucket.objects("lives") == {}

    def test_a_driver_that_lost_it_is_called_and_writes_no_more(self, bucket: Bucket, tmp_path: Path) -> None:
        there, said = Storage(bucket.url("lost")).root, list[str]()
        one = tmp_path / "x"
        one.mkdir()
        how: dict[str, Any] = {"former_lease": "", "wait": False, "say": said.append, "on_taken_over": said.append}
        with remote_session(one, there, **how) as (lease, mirror):
            Lease(there, "x").acquire(lease, False, print)  # as if this one had been silent for long
            wait_until(lambda: said, "the line", 30)
            (one / "journal").write_text("too late\n")
            assert not mirror.push()
        assert said == [f"process {os.getpid()} on {os.uname().nodename}"]
        assert set(bucket.objects("lost")) == {"lease.json"}


@pytest.mark.parametrize("name", ["../searches/far", "../..", "far/../../../x", "/tmp/x"])
def test_a_name_does_not_lead_elsewhere(bucket: Bucket, tmp_path: Path, name: str) -> None:
    Storage(bucket.url("names")).root.joinpath("searches", "far", "state").write("search.json", b"{}")
    before = sorted(tmp_path.rglob("*"))
    assert search.report.main([name, "--storage", bucket.url("names")]) == 2
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "far" in path.parts] == []


# ---------------------------------------------------------------- whole searches


def alone(url: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: str) -> Alone:
    """A search in that URL from a head of that name, which has nothing but it."""
    work = tmp_path / head
    monkeypatch.setenv("SEARCH_WORK", str(work))
    environment = USER | {"SEARCH_WORK": str(work), "SEARCH_LEASE_S": "40", "SEARCH_DISK_WAIT_S": str(LONG_S)}
    return Alone(Storage(url).folder, name, **SIZE, uri=uri, url=url, environment=environment)


SIZE = {"trials": 3, "epochs": 4}


def require_no_secret(bucket: Bucket, tmp_path: Path) -> None:
    """In any object of the bucket, and in any file of the search."""
    texts = [*bucket.objects().items()]
    texts += [(str(path), path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()]
    secrets = [secret.encode() for secret in SECRETS.values()]
    assert [name for name, text in texts for secret in secrets if secret in text] == []


@pytest.mark.slow
def test_a_search_whose_head_is_lost_goes_on_from_the_bucket(
    bucket: Bucket, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of its second trial, with everything that was on its machine."""
    url = bucket.url("head")
    first = alone(url, server.uri, tmp_path, monkeypatch, "far", "first")
    life = first.start(epoch_s=4)  # long enough for all that is tried meanwhile

    def in_the_second_trial() -> bool:
        assert life.poll() is None, first.text
        said = [entry.content for entry in read_entries(first.journal) if entry.event == "checkpoint_saved"]
        return any(content["number"] == 1 for content in said)

    wait_until(in_the_second_trial, "a checkpoint of the second trial")
    second = alone(url, server.uri, tmp_path, monkeypatch, "far", "second")
    flags = ("tiny", "--storage", url, "--name", "far", "--tracking-uri", server.uri)
    for resume in ("no", "yes"):
        code, text = call(make_tiny(), *flags, "--resume", resume)
        assert (code, "A search named 'far' is running now: process" in text) == (2, True), text
    kill(life)
    text = first.text
    shutil.rmtree(tmp_path / "first")
    done = second.end(second.start("--resume", "auto", "--keep", "2"))
    assert done.code == 0, f"{text}\n{done.text}"
    assert "waiting up to" in done.text
    points = require_nothing_lost(done, **SIZE)
    assert points.written == expected_points(done, SIZE["epochs"])
    resumed = [value for _, value in done.curve("trial-001", "resumed_at")]
    assert resumed[0] == 0.0
    assert resumed[-1] >= 1.0, "the second trial began anew"
    kept = {name.partition("/")[0][:5] for name in bucket.objects("head/searches/far") if name.endswith("state.pt")}
    assert kept == {f"{done.rows[label]['number']:05d}" for label in done.rows if done.rows[label]["rank"] in (1, 2)}
    assert "lease.json" not in bucket.objects("head/searches/far")
    require_no_secret(bucket, tmp_path)
    _require_read_elsewhere(done, url, tmp_path, monkeypatch)


def _require_read_elsewhere(done: Finished, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third machine makes a page of it, takes its best trial's weights, and has nothing left to export."""
    monkeypatch.setenv("SEARCH_WORK", str(tmp_path / "third"))
    assert search.report.main(["far", "--storage", url]) == 0
    folder = SearchDir(Storage(url), "far")
    assert (folder.path / "report.html").stat().st_size > 10_000
    assert json.loads((folder.path / "leaderboard.json").read_text()) == done.board
    best = next(row for row in done.board["rows"] if row["rank"] == 1)
    record = next(record for record in folder.history.records() if record.number == best["number"])
    assert record.checkpoint is not None
    with record.checkpoint.as_folder() as checkpoint:
        weights = torch.load(checkpoint / "best.pt", weights_only=True)
    assert weights["x"].item() == pytest.approx(best["hyperparameters"]["x"])
    words = ("--sync", "far", "--storage", url, "--tracking-uri", done.uri)
    code, text = call(make_tiny(), *words)
    assert (code, " 0 entries delivered" in text) == (0, True), text


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_loses_nothing(
    bucket: Bucket, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy(bucket.uri) as proxy:
        one = alone(bucket.url("outage", proxy.port), server.uri, tmp_path, monkeypatch, "away", "one")

        def outage() -> None:
            proxy.refuse()
            wait_until(lambda: "does not answer" in one.text, "the line")
            time.sleep(8)
            proxy.pass_through()

        life = one.start(epoch_s=0.5)
        with when(one.journal, 7, outage):
            done = one.end(life)
    assert done.code == 0, done.text
    assert "storage  answers again" in done.text
    assert "Traceback" not in done.text
    require_nothing_lost(done, **SIZE)
    assert {record.attempts for record in SearchDir(done.storage, "away").history.records()} == {1}
    there = bucket.objects("outage/searches/away/state")
    assert there["search.journal/000000"] == one.journal.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_any_file_system_of_fsspec_will_do(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_WORK", str(tmp_path / "one"))
    url = f"local://{tmp_path}/shared"
    flags = ("--tracking-uri", server.uri, "--epochs", "2", "--scheduler", "none", "--keep", "1")
    code, text = call(make_tiny(), "tiny", "--storage", url, "--name", "anywhere", "--trials", "2", *flags)
    assert code == 0, text
    monkeypatch.setenv("SEARCH_WORK", str(tmp_path / "two"))
    code, text = call(make_tiny(), "tiny", "--storage", url, "--name", "anywhere", "--trials", "+1", *flags)
    assert (code, "outcomes 3 complete" in text) == (0, True), text
    assert len([*(tmp_path / "shared" / "searches" / "anywhere").glob("*/checkpoint_*/state.pt")]) == 1
    code, text = call(
        make_tiny(), "tiny", "--storage", url, "--name", "warm", "--trials", "1", "--warm-from", "anywhere", *flags
    )
    assert (code, "anywhere" in text) == (0, True), text


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_search_is_promoted_on_another_machine(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without being named, from what is in the store alone."""
    for module in (evaluations, promotable):
        cloudpickle.register_pickle_by_value(module)
    url, workload = f"local://{tmp_path}/shared", promotable.make_promotable(good={"x": 0.1, "y": 0.0})
    where = ("--storage", url, "--tracking-uri", server.uri)
    flags = ("--trials", "0", "--scheduler", "none", "--presets", "all")
    for name in ("earlier", "promoted"):
        monkeypatch.setenv("SEARCH_WORK", str(tmp_path / name))
        code, text = call(workload, "tiny", "--name", name, *where, *flags)
        assert code == 0, text
    monkeypatch.setenv("SEARCH_WORK", str(tmp_path / "elsewhere"))
    said = io.StringIO()
    with registered(workload), redirect_stdout(said):
        code = search.promote.main(["tiny", "--seeds", "2", "--top", "1", *where])
    assert (code, "promote  promoted: good" in said.getvalue()) == (0, True), said.getvalue()
    (result,) = (tmp_path / "shared" / "searches").glob("promoted.finalists-*/state/promotion.json")
    assert json.loads(result.read_text())
