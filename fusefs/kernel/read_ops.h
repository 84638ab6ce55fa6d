// The FUSE requests of the read side: lookup, forget, getattr, readlink, directories, statfs, read-only xattrs. Each
// answers its request exactly once. Worker threads, no lock held; the rule of coherence.h.
#pragma once

#include "fusefs/kernel/mount.h"

namespace coord::fs {

void read_lookup(Mount& mount, fuse_req_t req, Ino parent, const char* name);
// `by_handle`: the kernel asks for itself, with a descriptor (lseek to the end), and not for stat or fstat.
void read_getattr(Mount& mount, fuse_req_t req, Ino ino, bool by_handle);
void read_readlink(Mount& mount, fuse_req_t req, Ino ino);
void read_statfs(Mount& mount, fuse_req_t req, Ino ino);

// Directories: a snapshot of the names per opendir handle, taken again by a read at offset 0 (rewinddir).
void read_opendir(Mount& mount, fuse_req_t req, Ino ino, fuse_file_info* fi);
void read_readdir(Mount& mount, fuse_req_t req, Ino ino, std::size_t size, off_t off, fuse_file_info* fi, bool plus);
void read_releasedir(Mount& mount, fuse_req_t req, Ino ino, fuse_file_info* fi);

// user.coord.{name,path,version,cversion,aversion,czxid,mzxid,pzxid,ephemeral_owner,shape,acl}; all else ENODATA, never
// ENOSYS. None is listed: cp -a and rsync -X would try to set them.
void read_getxattr(Mount& mount, fuse_req_t req, Ino ino, const char* name, std::size_t size);
void read_listxattr(Mount& mount, fuse_req_t req, std::size_t size);

// Waits until the inode's standing is known (not kUnknown). 0, or the errno to answer. Without the lock.
int settle(Mount& mount, Ino ino, const Credentials& who, Deadline deadline);

}  // namespace coord::fs
