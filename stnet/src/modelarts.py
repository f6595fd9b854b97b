"""A ModelArts job: data set and weights are copied from a bucket to the node, results back to the bucket.

moxing copies where it is installed, as on ModelArts; elsewhere s3fs does. Its endpoint and keys are those of
AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; obs:// is read as s3://.
"""

import contextlib
import fcntl
import functools
import importlib.util
import lzma
import os
import posixpath
import re
import shutil
import sys
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import fsspec
from mindspore import communication
from tqdm import tqdm

from shared_utils.config import UserError
from shared_utils.metrics import writable_folder

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
CONNECTIONS = 8  # files that are copied at a time
RECORD = ".copied_from"  # of a copied folder: its address, and "whole" once all of it is there


def online(main, trains=False):
    """The program `main(config)`, as a job on a node of its own where `run_online` says so.

    What is under train_url is fetched as well where resume is auto, so that a job started again goes on. What
    the program leaves in output_path is copied to train_url when it ends, also when it fails.
    """

    @functools.wraps(main)
    def job(config):
        if not config.run_online:
            main(config)
            return
        arrive(config, trains)
        try:
            main(config)
        except BaseException:
            try:
                copy_out(config.output_path, config.train_url)
            except UserError as error:  # what ended the program is told first of all
                print(f"error: {error}", file=sys.stderr, flush=True)
            raise
        if not communication.GlobalComm.INITED or communication.get_rank() == 0:
            copy_out(config.output_path, config.train_url)

    return job


def arrive(config, trains=False):
    """Copy in what the job needs, and point the configuration's paths at it.

    Raises UserError, also where a job that `trains` from the start would mix with a run under train_url.
    """
    needed = ["train_url", "output_path"]
    needed += ["local_data_url"] if config.data_url else []
    needed += ["load_path"] if config.pre_url else []
    if missing := [key for key in needed if not config[key]]:
        raise UserError(f"run_online needs a value of {' and '.join(missing)}")
    anew = trains and config.resume != "auto"
    if anew and any(re.match(r"stnet(_\d+)?-", name) for name in names(config.train_url)):
        raise UserError(
            f"{config.train_url} holds a run already: go on with it by resume=auto, or name another train_url"
        )
    if config.data_url:
        copy_in(config.data_url, config.local_data_url)
        if Path(config.local_data_url).resolve() not in Path(config.dataset_path).resolve().parents:
            config.dataset_path = config.local_data_url
    if config.pre_url:
        copy_in(config.pre_url, config.load_path)
    output = writable_folder(config.output_path)
    copied = not any(output.iterdir()) or (output / RECORD).exists()  # otherwise it has results of its own
    if config.resume == "auto" and copied and names(config.train_url):
        copy_in(config.train_url, output)
    config.pre_res50 = config.pre_res50_art_load_path or config.pre_res50
    config.resume = config.best_acc_art_load_path or config.resume
    config.checkpoint_path = config.output_path
    config.eval_dir = f"{config.output_path}/eval"
    config.infer_dir = f"{config.output_path}/infer"
    config.file_name = f"{config.output_path}/{Path(config.file_name).name}"


def copy_in(url, folder):
    """Copy all that is under `url`, or the one file there, to `folder` and unpack the archives among it.

    Of the processes on a node the first does it, the others wait. A copy that was cut short goes on, what is
    whole is not copied again, unpacked archives do not stay. Raises UserError, also where `folder` holds
    anything else.
    """
    folder = writable_folder(folder)
    with open(folder / RECORD, "a+", encoding="utf-8") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        record.seek(0)
        source, _, state = record.read().partition("\n")
        if not source and any(path.name != RECORD for path in folder.iterdir()):
            (folder / RECORD).unlink(missing_ok=True)
            raise UserError(f"{folder} is not empty: name a folder of its own for the copy of {url}")
        if source not in ("", url):
            raise UserError(f"{folder} holds a copy of {source}: name another folder for that of {url}")
        if state == "whole":
            return
        record.truncate(0)
        print(url, file=record, flush=True)
        with told(f"cannot copy {url} to {folder}"):
            download(url, folder)
        archives = sorted(path for path in folder.rglob("*") if path.name.endswith(ARCHIVES))
        for archive in tqdm(archives, "unpacking", unit="archive", disable=None):
            unpack(archive)
            archive.unlink()
        record.write("whole")
    print(f"copied {url} to {folder}, {len(archives)} archives unpacked", flush=True)


def copy_out(folder, url):
    """Copy all files of `folder` but the hidden ones to `url`. Raises UserError."""
    with told(f"cannot copy the results to {url}; they are in {folder}"):
        names = upload(Path(folder), url)
    print(f"copied {names} files of {folder} to {url}", flush=True)


def unpack(archive):
    """Unpack a .zip or .tar file where it lies. Raises UserError, also for a member that leads elsewhere."""
    contents = zipped if archive.name.endswith(".zip") else tarred
    try:
        for name, file in contents(archive):
            place = inside(archive.parent, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            with file, open(place, "wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
    except (
        OSError,
        EOFError,
        RuntimeError,  # encrypted, or compressed in a way that zipfile does not know
        ValueError,
        lzma.LZMAError,
        zlib.error,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from None


def zipped(path):
    """(name, open file) of each file in a .zip."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, archive.open(member)


def tarred(path):
    """(name, open file) of each file in a .tar, compressed or not. Raises UserError for links and devices."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member)
            elif not member.isdir():
                raise UserError(f"{path} cannot be unpacked: {member.name} is neither a file nor a folder")


def inside(folder, name):
    """The path of `name` below `folder`. Raises UserError where it leads elsewhere."""
    path = Path(os.path.normpath(folder / name))
    if Path(os.path.normpath(folder)) not in path.parents:
        raise UserError(f"{name!r} leads out of {folder}")
    return path


@contextlib.contextmanager
def told(doing):
    """Any failure to reach a bucket as one line: UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # moxing's and botocore's own classes, one for each kind of trouble
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{doing}: {reason[0]}") from None


def names(url):
    """Names of the files and folders right under `url`. Raises UserError where it cannot be reached."""
    with told(f"cannot look at {url}"):
        if moxing := mox():
            return moxing.file.list_directory(url) if moxing.file.exists(url) else []
        files, root = bucket(url)
        return sorted({posixpath.relpath(name, root).split("/")[0] for name in files.find(root)})


def download(url, folder):
    """Copy the file at `url`, or all files under it, into `folder`; what is there whole already stays."""
    if moxing := mox():
        if moxing.file.is_directory(url):  # copy_parallel copies nothing else
            moxing.file.copy_parallel(url, str(folder))
        else:
            moxing.file.copy(url, str(folder / posixpath.basename(url)))
        return
    files, root = bucket(url)
    found = {name: facts["size"] for name, facts in files.find(root, detail=True).items()}
    if not found:
        raise UserError(f"nothing to copy at {url}")
    top = posixpath.dirname(root) if set(found) == {root} else root
    places = {name: inside(folder, posixpath.relpath(name, top)) for name in found}
    wanted = [
        name
        for name, place in places.items()
        if not (place.is_file() and place.stat().st_size == found[name])
    ]
    for name in wanted:
        places[name].parent.mkdir(parents=True, exist_ok=True)
    each(files.get_file, wanted, [str(places[name]) for name in wanted], "copying in")


def upload(folder, url):
    """Copy the files of `folder` to `url`; how many there are."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if names and (moxing := mox()):
        moxing.file.copy_parallel(str(folder), url)
    elif names:
        files, root = bucket(url)
        places = [posixpath.join(root, *name.parts) for name in names]
        each(files.put_file, [str(folder / name) for name in names], places, "copying out")
    return len(names)


def each(copy, sources, places, doing):
    """copy(source, place) of each, several at a time; the first trouble ends it."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        done = [pool.submit(copy, source, place) for source, place in zip(sources, places)]
        try:
            for copied in tqdm(as_completed(done), doing, len(done), unit="file", disable=None):
                copied.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def mox():
    """The module moxing, or None where it is not installed. Its import is slow and writes log files."""
    return importlib.import_module("moxing") if importlib.util.find_spec("moxing") else None


def bucket(url):
    """(file system, path in it) of s3://bucket/path, or of a folder of this machine."""
    options = {} if "://" in url else {"auto_mkdir": True}  # of a bucket every folder is there
    url = url.replace("obs://", "s3://", 1) if url.startswith("obs://") else url
    files, root = fsspec.url_to_fs(url, **options)
    return files, root.rstrip("/")
