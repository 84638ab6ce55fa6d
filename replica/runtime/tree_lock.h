// A reader-writer lock in which readers do not keep a writer waiting for ever: std::shared_mutex of glibc prefers
// readers.
#pragma once

#include <pthread.h>

#include "common/base/check.h"

namespace coord::runtime {

class TreeLock {
 public:
  TreeLock() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    COORD_CHECK(pthread_rwlock_init(&lock_, &attributes) == 0);
    pthread_rwlockattr_destroy(&attributes);
  }
  ~TreeLock() { pthread_rwlock_destroy(&lock_); }
  TreeLock(const TreeLock&) = delete;
  TreeLock& operator=(const TreeLock&) = delete;
  void lock() { COORD_CHECK(pthread_rwlock_wrlock(&lock_) == 0); }
  void unlock() { COORD_CHECK(pthread_rwlock_unlock(&lock_) == 0); }
  void lock_shared() { COORD_CHECK(pthread_rwlock_rdlock(&lock_) == 0); }
  void unlock_shared() { COORD_CHECK(pthread_rwlock_unlock(&lock_) == 0); }

 private:
  pthread_rwlock_t lock_;
};

}  // namespace coord::runtime
