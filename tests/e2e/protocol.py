"""What the test_protocol_*.py files share: a replica with everything switched on, clients, a subtree for each test."""

import os

import zk

CONFIG = {
    "4lw.commands.whitelist": "*",
    "DigestAuthenticationProvider.superDigest": zk.SUPER_DIGEST,
    "extendedTypesEnabled": "true",
    "maxClientCnxns": 0,
}


def replica(t, **more):
    config = dict(CONFIG)
    config.update(more)
    return t.replica(config=config)


def client(t, **options):
    raw = zk.Raw(t.shared, **options)
    t.undo.callback(raw.close_socket)
    return raw


def home(t, raw):
    """A fresh node for this test, as the tests of one file share a replica."""
    return raw.create("/t" + os.path.basename(t.directory))
