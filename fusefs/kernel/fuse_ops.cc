#include "fusefs/kernel/fuse_ops.h"

#include <cerrno>

#include "fusefs/kernel/read_ops.h"

namespace coord::fs {
namespace {

Mount& mount_of(fuse_req_t req) { return *static_cast<Mount*>(fuse_req_userdata(req)); }
WriteSide& writes_of(fuse_req_t req) { return mount_of(req).writes(); }

void init(void*, fuse_conn_info* conn) {
  const auto want = [conn](unsigned flag, bool on) {
    if (on) conn->want |= conn->capable & flag;
    if (!on) conn->want &= ~flag;
  };
  want(FUSE_CAP_READDIRPLUS, true);
  want(FUSE_CAP_READDIRPLUS_AUTO, false);  // entries come from memory: cheaper at once than by a lookup each
  want(FUSE_CAP_ATOMIC_O_TRUNC, true);     // O_TRUNC belongs to the open's commit
  want(FUSE_CAP_PARALLEL_DIROPS, true);
  want(FUSE_CAP_WRITEBACK_CACHE, false);   // one save is one transaction: nothing of ours is in the page cache
  want(FUSE_CAP_AUTO_INVAL_DATA, false);
  want(FUSE_CAP_HANDLE_KILLPRIV, false);
  want(FUSE_CAP_CACHE_SYMLINKS, false);
  want(FUSE_CAP_SPLICE_READ, false);
  want(FUSE_CAP_SPLICE_WRITE, false);
  want(FUSE_CAP_SPLICE_MOVE, false);
  want(FUSE_CAP_NO_OPENDIR_SUPPORT, false);
  want(FUSE_CAP_NO_OPEN_SUPPORT, false);
  conn->max_write = kMaxWrite;
  conn->time_gran = 1;
}

void init_with_locks(void* data, fuse_conn_info* conn) {
  init(data, conn);
  conn->want |= conn->capable & (FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
}

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  Mount& mount = mount_of(req);
  const DirectoryUse use(mount, parent);
  read_lookup(mount, req, parent, name);
}

void forget(fuse_req_t req, fuse_ino_t ino, std::uint64_t count) {
  mount_of(req).coherence().forget(ino, count);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  Mount& mount = mount_of(req);
  for (std::size_t i = 0; i < count; ++i) mount.coherence().forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  read_getattr(mount_of(req), req, ino, fi != nullptr);
}
void readlink(fuse_req_t req, fuse_ino_t ino) { read_readlink(mount_of(req), req, ino); }
void statfs(fuse_req_t req, fuse_ino_t ino) { read_statfs(mount_of(req), req, ino); }

void opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) { read_opendir(mount_of(req), req, ino, fi); }
void readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) {
  read_readdir(mount_of(req), req, ino, size, off, fi, false);
}
void readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) {
  read_readdir(mount_of(req), req, ino, size, off, fi, true);
}
void releasedir(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) { read_releasedir(mount_of(req), req, ino, fi); }
void fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) {
  writes_of(req).fsyncdir(req, ino, datasync, fi);
}

void getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, std::size_t size) {
  read_getxattr(mount_of(req), req, ino, name, size);
}
void listxattr(fuse_req_t req, fuse_ino_t, std::size_t size) { read_listxattr(mount_of(req), req, size); }
void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, std::size_t size, int flags) {
  writes_of(req).setxattr(req, ino, name, value, size, flags);
}
void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) { writes_of(req).removexattr(req, ino, name); }

void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) { writes_of(req).open(req, ino, fi); }
void read(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t off, fuse_file_info* fi) {
  writes_of(req).read(req, ino, size, off, fi);
}
void write(fuse_req_t req, fuse_ino_t ino, const char* buf, std::size_t size, off_t off, fuse_file_info* fi) {
  writes_of(req).write(req, ino, buf, size, off, fi);
}
void flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) { writes_of(req).flush(req, ino, fi); }
void fsync(fuse_req_t req, fuse_ino_t ino, int datasync, fuse_file_info* fi) {
  writes_of(req).fsync(req, ino, datasync, fi);
}
void release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) { writes_of(req).release(req, ino, fi); }
void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, fuse_file_info* fi) {
  writes_of(req).fallocate(req, ino, mode, offset, length, fi);
}
void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info* fi) {
  writes_of(req).setattr(req, ino, attr, to_set, fi);
}

void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).create(req, parent, name, mode, fi);
}
void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).mknod(req, parent, name, mode, rdev);
}
void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).mkdir(req, parent, name, mode);
}
void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).symlink(req, target, parent, name);
}
void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).unlink(req, parent, name);
}
void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  const DirectoryUse use(mount_of(req), parent);
  writes_of(req).rmdir(req, parent, name);
}
void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  const DirectoryUse use(mount_of(req), parent);
  const DirectoryUse use_new(mount_of(req), new_parent);
  writes_of(req).rename(req, parent, name, new_parent, new_name, flags);
}
void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char* new_name) {
  const DirectoryUse use(mount_of(req), new_parent);
  writes_of(req).link(req, ino, new_parent, new_name);
}

// EINVAL, on which programs read and write instead. With ENOSYS the kernel would copy by itself, from its page cache,
// which FOPEN_DIRECT_IO does not keep it from, and whose pages may be of several versions.
void copy_file_range(fuse_req_t req, fuse_ino_t, off_t, fuse_file_info*, fuse_ino_t, off_t, fuse_file_info*,
                     std::size_t, int) {
  fuse_reply_err(req, EINVAL);
}

void getlk(fuse_req_t req, fuse_ino_t, fuse_file_info*, struct flock*) { fuse_reply_err(req, ENOLCK); }
void setlk(fuse_req_t req, fuse_ino_t, fuse_file_info*, struct flock*, int) { fuse_reply_err(req, ENOLCK); }
void flock_op(fuse_req_t req, fuse_ino_t, fuse_file_info*, int) { fuse_reply_err(req, ENOLCK); }

void ioctl(fuse_req_t req, fuse_ino_t, unsigned, void*, fuse_file_info*, unsigned, const void*, std::size_t,
           std::size_t) {
  fuse_reply_err(req, ENOTTY);
}

}  // namespace

fuse_lowlevel_ops fuse_ops(bool local_locks) {
  fuse_lowlevel_ops ops = {};
  ops.init = local_locks ? init : init_with_locks;
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.getattr = getattr;
  ops.setattr = setattr;
  ops.readlink = readlink;
  ops.mknod = mknod;
  ops.mkdir = mkdir;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.symlink = symlink;
  ops.rename = rename;
  ops.link = link;
  ops.open = open;
  ops.read = read;
  ops.write = write;
  ops.flush = flush;
  ops.release = release;
  ops.fsync = fsync;
  ops.opendir = opendir;
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.releasedir = releasedir;
  ops.fsyncdir = fsyncdir;
  ops.statfs = statfs;
  ops.setxattr = setxattr;
  ops.getxattr = getxattr;
  ops.listxattr = listxattr;
  ops.removexattr = removexattr;
  ops.create = create;
  ops.ioctl = ioctl;
  ops.fallocate = fallocate;
  ops.copy_file_range = copy_file_range;
  if (!local_locks) {
    ops.getlk = getlk;
    ops.setlk = setlk;
    ops.flock = flock_op;
  }
  return ops;
}

}  // namespace coord::fs
