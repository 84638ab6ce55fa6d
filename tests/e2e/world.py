"""What the tests of one file share: a replica, a mount of it and a ZooKeeper client."""


class World:
    pass


def one_host(t, replica=None, **kazoo):
    """`shared` of a file that needs no more. `kazoo`: how its client connects."""
    w = World()
    w.replica = replica or t.replica()
    w.mount = t.mount(w.replica)
    w.kazoo = t.kazoo(w.replica, **kazoo)
    return w
