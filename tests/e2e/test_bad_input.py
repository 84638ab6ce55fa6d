"""Issue 2, bad input: config lines, data directories, mount points."""

import hashlib
import os
import re
import struct

import zk
from lib import check, equal, free_port, mounts, program, read, run

DEADLINE_ALL = 90


# --- config lines ---

def refused(t, lines, line_number, mentions):
    """coordd --config must say FILE:LINE and why, exit with 2 and leave nothing behind."""
    data = t.path("data-%d" % len(os.listdir(t.directory)))
    port = free_port()
    text = "".join(line.format(data=data, port=port) + "\n" for line in lines)
    config = t.write("bad%d.cfg" % len(os.listdir(t.directory)), text)
    done = run(program("coordd"), "--config", config, ok=False, timeout=15)
    message = done.err + done.out
    equal(done.returncode, 2, "exit status for %r (said: %s)" % (text, message.strip()))
    if line_number:
        check("%s:%d" % (config, line_number) in message, "message names file and line", text, message)
    else:
        check(config in message, "message names the file", text, message)
    for word in mentions:
        check(word in message, "message must mention %r" % word, message)
    check(not os.path.exists(data) or os.listdir(data) == [], "nothing was started, nothing written", data)


BASE = ["dataDir={data}", "clientPort={port}"]


def test_values_that_cannot_be_meant(t):
    for line in ("clientPort=abc", "clientPort=70000", "clientPort=-1", "clientPort=", "tickTime=0", "tickTime=-5",
                 "tickTime=2s", "tickTime=99999999999999999999", "minSessionTimeout=x", "maxClientCnxns=-1",
                 "maxClientCnxns=many", "skipACL=perhaps", "extendedTypesEnabled=2", "coord.mountUsers=root,",
                 "DigestAuthenticationProvider.superDigest=nocolon", "coord.mapSize=12", "enforceQuota="):
        key = line.split("=")[0]
        refused(t, BASE + ["# a comment", "", line], 5, [key])


def test_lines_that_are_no_lines(t):
    refused(t, BASE + ["just some words"], 3, [])
    refused(t, BASE + ["=5"], 3, [])


def test_missing_data_dir(t):
    refused(t, ["clientPort={port}"], 0, ["dataDir"])


def test_contradictions(t):
    refused(t, BASE + ["minSessionTimeout=20000", "maxSessionTimeout=10000"], 0,
            ["minSessionTimeout", "maxSessionTimeout"])
    refused(t, ["dataDir={data}"], 0, ["clientPort"])


def test_members_that_cannot_be_right(t):
    lines = BASE + ["server.1=127.0.0.1:2888:3888", "server.2=127.0.0.1:2889:3889"]
    refused(t, lines + ["server.2=127.0.0.1:2890:3890"], len(lines) + 1, ["server.2", "twice"])
    refused(t, lines + ["server.3=127.0.0.1:2889:1"], len(lines) + 1, ["server.3", "same host and port"])
    refused(t, lines + ["server.900=a:1:2"], len(lines) + 1, ["server.900", "254"])
    refused(t, BASE + ["server.1=127.0.0.1:2888:3888:observer"], 0, ["observer", "participant"])


def test_tls_for_clients_is_refused_plainly(t):
    """What this version cannot do is refused, not ignored."""
    refused(t, BASE + ["secureClientPort=2281"], 3, ["secureClientPort"])


def test_directories_where_files_are_meant(t):
    os.makedirs(t.path("secret"), 0o700)
    refused(t, BASE + ["coord.peerSecretFile=" + t.path("secret")], 3, [t.path("secret"), "Is a directory"])
    os.makedirs(t.path("data", "myid"))
    done = run(program("coordd"), "--data-dir", t.path("data"), "--client-port", free_port(), ok=False, timeout=15)
    equal(done.returncode, 2, "exit status (said: %s)" % done.err)
    check(t.path("data", "myid") in done.err and "Is a directory" in done.err, "path and reason", done)


def test_unknown_keys_are_warnings(t):
    r = t.replica(config={"noSuchKey": "5", "initLimit": 10})
    text = r.log_text()
    check(re.search(r"\.cfg:\d+: .*noSuchKey", text), "a warning with file and line", text)


def test_missing_config_file_and_bad_options(t):
    for argv in (["--config", t.path("absent.cfg")], ["--no-such-option"], ["--client-port", "5"],
                 ["--data-dir", t.path("d"), "--client-port", "nonsense"], [],
                 ["--data-dir", t.path("d"), "--client-port", "99999"]):
        done = run(program("coordd"), *argv, ok=False, timeout=15)
        equal(done.returncode, 2, "exit status of coordd %s: %s" % (argv, done.err))
        check(len(done.err) > 10, "a message on stderr", done)
    check("absent.cfg" in run(program("coordd"), "--config", t.path("absent.cfg"), ok=False).err, "names the file")


def test_help_and_version(t):
    for name in ("coordd", "coordfs", "coordctl"):
        text = run(program(name), "--help").out
        check(len(text.splitlines()) > 5 and name in text, "%s --help is a text" % name, text)
        check(re.search(r"\d+\.\d+\.\d+", run(program(name), "--version").out), "%s --version" % name)


# --- data directories ---

def digest_of(directory):
    """Content of every file; lock files aside, which anybody who looks may touch."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            if "lock" not in name:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, directory)] = hashlib.sha256(read(path)).hexdigest()
    return found


def refuses_data(t, data, mentions, what):
    before = digest_of(data)
    done = run(program("coordd"), "--data-dir", data, "--client-port", free_port(), "--socket", t.path("s"), ok=False,
               timeout=20)
    message = (done.err + done.out).lower()
    check(done.returncode > 0, "%s must be refused (status %s)" % (what, done.returncode), message)
    check(any(m in message for m in mentions), "%s: the message says why (one of %r)" % (what, mentions), message)
    check(data in done.err + done.out, "%s: the message names the directory" % what, message)
    equal(digest_of(data), before, "%s: untouched" % what)


def used_directory(t):
    r = t.replica()
    zk.Raw(r).create("/data", b"x")
    equal(r.terminate(), 0, "a clean end")
    return r


def test_data_directory_of_another_replica(t):
    r = used_directory(t)
    with open(r.data_dir + "/myid", "w") as f:
        f.write("7\n")
    refuses_data(t, r.data_dir, ["server id", "another replica", "myid"], "another replica's data")
    os.unlink(r.data_dir + "/myid")
    r.restart()
    equal(zk.Raw(r).get("/data")[0], b"x", "unharmed")


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def test_data_directory_of_another_version(t):
    """The record `format` of the database (replica/store/schema.h), rewritten with a version yet to come."""
    r = used_directory(t)
    path = r.data_dir + "/data.mdb"
    data = read(path)
    records = [m.end() for m in re.finditer(b"format", data) if data[m.end() + 4:m.end() + 8] == b"\0\0\0\2"]
    check(records, "the format record is where schema.h says")
    body = struct.pack(">I", 99)
    changed = bytearray(data)
    for at in records:
        for form in (">I", "<I"):
            if data[at:at + 4] == struct.pack(form, crc32c(b"format" + data[at + 4:at + 8])):
                changed[at:at + 8] = struct.pack(form, crc32c(b"format" + body)) + body
    check(bytes(changed) != data, "the checksum is over key and body")
    with open(path, "wb") as f:
        f.write(changed)
    refuses_data(t, r.data_dir, ["version", "format"], "data of another version")


def test_data_directory_with_garbage(t):
    for name, content in (("data.mdb", os.urandom(100_000)), ("data.mdb", b"short"), ("other-file", b"not ours")):
        data = t.path("garbage%d" % len(os.listdir(t.directory)))
        os.makedirs(data)
        with open(os.path.join(data, name), "wb") as f:
            f.write(content)
        refuses_data(t, data, ["not a", "something else", "foreign", "invalid", "corrupt", "damaged"],
                     "%s of %d bytes" % (name, len(content)))


def test_data_directory_that_is_none(t):
    done = run(program("coordd"), "--data-dir", t.write("file", "x"), "--client-port", free_port(), ok=False)
    check(done.returncode > 0 and t.path("file") in done.err, "a file is not a data directory", done)
    done = run(program("coordd"), "--data-dir", t.path("no", "such", "parent"), "--client-port", free_port(), ok=False)
    check(done.returncode > 0 and "no/such" in done.err, "a missing parent", done)


def test_data_directory_in_use(t):
    r = t.replica()
    done = run(program("coordd"), "--data-dir", r.data_dir, "--client-port", free_port(), "--socket", t.path("s2"),
               ok=False)
    check(done.returncode > 0 and "use" in done.err, "a second coordd on the same directory", done)
    check(zk.Raw(r).stat("/") is not None, "the first one is unaffected")


def test_port_in_use(t):
    r = t.replica()
    done = run(program("coordd"), "--data-dir", t.path("other"), "--client-port", r.port, "--socket", t.path("s2"),
               ok=False)
    check(done.returncode > 0 and str(r.port) in done.err, "the message names the port", done)
    check(zk.Raw(r).stat("/") is not None, "the first one is unaffected")


def test_stale_socket_is_replaced_and_a_live_one_is_not(t):
    r = t.replica()
    done = run(program("coordd"), "--data-dir", t.path("other"), "--client-port", free_port(), "--socket", r.socket,
               ok=False)
    check(done.returncode > 0 and r.socket in done.err, "a live socket of another replica is not taken away", done)
    check(zk.Raw(r, unix=True).stat("/") is not None, "the first one still serves on it")
    r.kill9()
    check(os.path.exists(r.socket), "kill -9 leaves the socket file")
    r.restart()
    check(zk.Raw(r, unix=True).stat("/") is not None, "a stale one is replaced")


def test_socket_mode(t):
    r = t.replica()
    equal(os.stat(r.socket).st_mode & 0o777, 0o660, "the socket is 0660")


# --- mount points ---

def coordfs_refuses(t, point, mentions, what):
    r = t.replica()
    done = run(program("coordfs"), r.source, point, "-f", ok=False, timeout=20)
    check(done.returncode > 0, "%s must be refused" % what, done.returncode)
    message = done.err + done.out
    check(point in message, "%s: the message names the mount point" % what, message)
    check(any(m in message.lower() for m in mentions), "%s: the message says which (one of %r)" % (what, mentions),
          message)


def test_mount_point_missing(t):
    coordfs_refuses(t, t.path("absent"), ["no such", "does not exist", "missing"], "a missing mount point")
    check(not os.path.exists(t.path("absent")), "it is not created")


def test_mount_point_not_a_directory(t):
    coordfs_refuses(t, t.write("file", "x"), ["not a directory"], "a file")


def test_mount_point_not_empty(t):
    os.makedirs(t.path("full"))
    t.write("full/precious", "data")
    coordfs_refuses(t, t.path("full"), ["not empty"], "a mount point that is not empty")
    equal(read(t.path("full", "precious")), b"data", "its content is untouched")


def test_mount_point_already_mounted(t):
    r = t.replica()
    m = t.mount(r)
    done = run(program("coordfs"), r.source, m.path, "-f", ok=False, timeout=20)
    check(done.returncode > 0 and "mounted" in done.err and m.path in done.err, "already mounted", done)
    equal(len([k for _, _, k in mounts(at=m.path) if k.startswith("fuse")]), 1, "one mount")
    check(os.listdir(m.path) is not None, "the first one is unaffected")
    other = t.path("tmpfs")
    os.makedirs(other)
    run("mount", "-t", "tmpfs", "tmpfs", other)
    t.undo.callback(lambda: run("umount", "-l", other, ok=False))
    done = run(program("coordfs"), r.source, other, "-f", ok=False, timeout=20)
    check(done.returncode > 0 and "mounted" in done.err, "another file system is mounted there", done)


def test_not_mounted_marker(t):
    """filesystem.md section 8: while not mounted, the mount point holds only the file NOT_MOUNTED."""
    r = t.replica()
    m = t.mount(r)
    check("NOT_MOUNTED" not in os.listdir(m.path), "not in the mount")
    m.unmount()
    equal(os.listdir(m.path), ["NOT_MOUNTED"], "after the unmount")
    again = t.mount(r, point=m.path)
    again.unmount()


def test_bad_source_and_options(t):
    point = t.path("mnt")
    os.makedirs(point)
    for argv in (["unix:", point], [":2181", point], ["127.0.0.1:notaport", point],
                 ["unix:/x", point, "-o", "nosuchoption"], ["unix:/x", point, "-o", "wait=soon"], ["unix:/x"], []):
        done = run(program("coordfs"), *(argv + ["-f"]), ok=False, timeout=15)
        equal(done.returncode, 2, "exit status of coordfs %s: %s" % (argv, done.err))
        check(len(done.err.strip()) > 10, "a message", done)


def test_paths_under_the_mount_are_refused(t):
    """filesystem.md section 8: a log path under the own mount is refused."""
    r = t.replica()
    point = t.path("mnt")
    os.makedirs(point)
    done = run(program("coordfs"), r.source, point, "-f", "-o", "log=%s/log" % point, ok=False, timeout=15)
    check(done.returncode > 0 and point + "/log" in done.err, "a log file under the mount", done)


def test_coordctl_errors(t):
    r = t.replica()
    server = ["--server", r.source]
    text = run(program("coordctl"), "--help").out
    check("--server" in text, "coordctl has --server", text)
    for argv in (["get", "/none"], ["rm", "/none"], ["set", "/none", "x"], ["ls", "/none"]):
        done = run(program("coordctl"), *(server + argv), ok=False)
        check(done.returncode == 1 and "/none" in done.err, "coordctl %s" % argv, done)
    equal(run(program("coordctl"), "nosuchcommand", ok=False).returncode, 2, "an unknown command")
