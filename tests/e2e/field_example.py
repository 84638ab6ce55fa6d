"""The Python example of the field, as it stands in ZooKeeper tutorials; only the address is an argument."""
import sys
import time

from kazoo.client import KazooClient

zk = KazooClient(hosts=sys.argv[1])
zk.start()

zk.create("/mylock", b"hello")
data, stat = zk.get("/mylock")
print("data %s version %d" % (data.decode(), stat.version))

seen = []


@zk.DataWatch("/mylock")
def changed(data, stat):
    seen.append(None if data is None else data.decode())


zk.set("/mylock", b"world")
while len(seen) < 2:
    time.sleep(0.01)
zk.delete("/mylock")
while len(seen) < 3:
    time.sleep(0.01)
print("watch saw %s" % seen)
zk.stop()
