// The replay through a real mount: a small tree behind libfuse, changed "elsewhere", watched by inotify. Needs root and
// /dev/fuse.
#define FUSE_USE_VERSION 314
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "fusefs/kernel/mountpoint.h"
#include "fusefs/replay/replayer.h"
#include "tests/fusefs/kernel/temp_dir.h"

namespace coord::fs::replay {
namespace {

using std::chrono::milliseconds;

struct Node {
  NodeType type = NodeType::kFile;
  std::uint64_t parent = 1;
  std::string name;
  bool alive = true;
};

// A tree of empty nodes. Changes go through remote_*(); what a request would change is counted in `transactions`.
class SmallMount : public Host {
 public:
  explicit SmallMount(const std::string& path) : path_(path) {
    nodes_[1] = Node{NodeType::kDirectory, 1, "", true};
    nodes_[kNobodysFile] = Node{NodeType::kFile, 1, "", false};
    nodes_[kNobodysDirectory] = Node{NodeType::kDirectory, 1, "", false};
    ReplayOptions options;
    options.mountpoint = path;
    options.deadline = milliseconds(3000);
    auto started = Replayer::start(options, *this);
    if (!started) throw std::runtime_error(started.error().message);
    replayer = std::move(*started);
    const char* argv[] = {"small", "-o", "fsname=test,subtype=coordfs"};
    fuse_args args = FUSE_ARGS_INIT(3, const_cast<char**>(argv));
    session_ = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), this);
    fuse_opt_free_args(&args);
    if (session_ == nullptr || fuse_session_mount(session_, path.c_str()) != 0) return;
    mounted = true;
    loop_ = std::thread([this] {
      fuse_loop_config* config = fuse_loop_cfg_create();
      fuse_session_loop_mt(session_, config);
      fuse_loop_cfg_destroy(config);
    });
    const auto entry = mount_at(path);
    replayer->run(makedev(0, entry->minor));
  }
  ~SmallMount() override {
    replayer->stop();
    if (mounted) ::umount2(path_.c_str(), MNT_DETACH);  // ends the loop; only then may the session close its descriptor
    if (loop_.joinable()) loop_.join();
    if (mounted) fuse_session_unmount(session_);
    if (session_ != nullptr) fuse_session_destroy(session_);
  }

  std::uint64_t remote_create(const std::string& name, NodeType type = NodeType::kFile, std::uint64_t parent = 1) {
    const std::uint64_t ino = put(name, type, parent);
    replayer->add(make(EventKind::kCreate, ino));
    return ino;
  }
  std::uint64_t put(const std::string& name, NodeType type = NodeType::kFile, std::uint64_t parent = 1) {
    const std::lock_guard lock(mutex_);
    nodes_[++last_ino_] = Node{type, parent, name, true};
    return last_ino_;
  }
  // The directory has no path here any more.
  void hide(std::uint64_t directory) {
    const std::lock_guard lock(mutex_);
    nodes_[directory].alive = false;
  }
  void remote_data(std::uint64_t ino) { replayer->add(make(EventKind::kData, ino)); }
  void remote_attributes(std::uint64_t ino) { replayer->add(make(EventKind::kAttributes, ino)); }
  void remote_delete(std::uint64_t ino) {
    Event e = make(EventKind::kDelete, ino);
    {
      const std::lock_guard lock(mutex_);
      nodes_[ino].alive = false;
    }
    replayer->add(e);
  }
  void remote_rename(std::uint64_t ino, std::uint64_t parent, const std::string& name) {
    Event e = make(EventKind::kRename, ino);
    e.new_parent = parent;
    e.new_name = name;
    {
      const std::lock_guard lock(mutex_);
      nodes_[ino].parent = parent;
      nodes_[ino].name = name;
    }
    replayer->add(e);
  }

  void invalidate_entry(std::uint64_t parent, const std::string& name) override {
    fuse_lowlevel_notify_inval_entry(session_, parent, name.c_str(), name.size());
    if (after_invalidation) after_invalidation();
  }
  bool directory_busy(std::uint64_t) override { return false; }
  std::optional<std::string> directory_path(std::uint64_t ino) override {
    const std::lock_guard lock(mutex_);
    std::string path;
    for (; ino != 1; ino = nodes_[ino].parent) {
      if (!nodes_[ino].alive) return std::nullopt;
      path = nodes_[ino].name + (path.empty() ? "" : "/" + path);
    }
    return path;
  }
  bool place_of(std::uint64_t ino, std::uint64_t& parent, std::string& name) override {
    const std::lock_guard lock(mutex_);
    parent = nodes_[ino].parent;
    name = nodes_[ino].name;
    return nodes_[ino].alive;
  }
  void finished(const Event&, bool) override { ++finished_count; }

  bool mounted = false;
  std::atomic<int> transactions = 0;
  std::atomic<int> finished_count = 0;
  std::atomic<bool> stall = false;  // requests of helpers that would be matched are not answered for a while
  std::function<void()> after_invalidation;
  std::unique_ptr<Replayer> replayer;

 private:
  Event make(EventKind kind, std::uint64_t ino) {
    const std::lock_guard lock(mutex_);
    Event e;
    e.kind = kind;
    e.ino = ino;
    e.type = nodes_[ino].type;
    e.parent = nodes_[ino].parent;
    e.name = nodes_[ino].name;
    return e;
  }
  struct stat attributes(std::uint64_t ino) {
    const std::lock_guard lock(mutex_);
    struct stat st {};
    const Node& node = nodes_[ino];
    st.st_ino = ino;
    st.st_nlink = node.alive ? 1 : 0;
    st.st_mode = node.type == NodeType::kDirectory ? S_IFDIR | 0755
                 : node.type == NodeType::kSymlink ? S_IFLNK | 0777
                                                   : S_IFREG | 0644;
    return st;
  }
  void reply_entry(fuse_req_t req, std::uint64_t ino, double timeout) {
    fuse_entry_param e{};
    e.ino = ino;
    e.attr = attributes(ino);
    e.attr_timeout = timeout;
    e.entry_timeout = timeout;
    fuse_reply_entry(req, &e);
  }
  static SmallMount& of(fuse_req_t req) { return *static_cast<SmallMount*>(fuse_req_userdata(req)); }

  // True: it was a replay and is answered.
  bool replayed(fuse_req_t req, FsCall call, std::uint64_t node, const char* name = "", std::uint64_t new_parent = 0,
                const char* new_name = "", fuse_file_info* fi = nullptr) {
    const auto match = replayer->match(fuse_req_ctx(req)->pid, call, node, name, new_parent, new_name);
    if (!match) return false;
    while (stall) std::this_thread::sleep_for(milliseconds(1));
    switch (match->say) {
      case Say::kAbsent:
        fuse_reply_err(req, ENOENT);
        break;
      case Say::kNode:
        reply_entry(req, match->ino, call == FsCall::kLookup ? 0 : 3600);
        break;
      case Say::kHandle:
        fi->direct_io = 1;
        fuse_reply_open(req, fi);
        break;
      case Say::kCurrent: {
        const auto st = attributes(match->ino);
        fuse_reply_attr(req, &st, 3600);
        break;
      }
      case Say::kDone:
        fuse_reply_err(req, 0);
        break;
      case Say::kRefuse:
        fuse_reply_err(req, EAGAIN);
        break;
    }
    return true;
  }
  void transaction(fuse_req_t req) {
    ++transactions;
    fuse_reply_err(req, EROFS);
  }

  static const fuse_lowlevel_ops& operations() {
    static const fuse_lowlevel_ops ops = [] {
      fuse_lowlevel_ops o{};
      o.lookup = [](fuse_req_t req, fuse_ino_t parent, const char* name) {
        SmallMount& m = of(req);
        if (m.replayed(req, FsCall::kLookup, parent, name)) return;
        std::uint64_t found = 0;
        {
          const std::lock_guard lock(m.mutex_);
          for (const auto& [ino, node] : m.nodes_) {
            if (node.alive && node.parent == parent && node.name == name && ino != 1) found = ino;
          }
        }
        if (found == 0) return void(fuse_reply_err(req, ENOENT));
        m.reply_entry(req, found, 3600);
      };
      o.getattr = [](fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
        const auto st = of(req).attributes(ino);
        fuse_reply_attr(req, &st, 3600);
      };
      o.setattr = [](fuse_req_t req, fuse_ino_t ino, struct stat*, int, fuse_file_info*) {
        if (!of(req).replayed(req, FsCall::kSetattr, ino)) of(req).transaction(req);
      };
      o.mknod = [](fuse_req_t req, fuse_ino_t parent, const char* name, mode_t, dev_t) {
        if (!of(req).replayed(req, FsCall::kMknod, parent, name)) of(req).transaction(req);
      };
      o.mkdir = [](fuse_req_t req, fuse_ino_t parent, const char* name, mode_t) {
        if (!of(req).replayed(req, FsCall::kMkdir, parent, name)) of(req).transaction(req);
      };
      o.symlink = [](fuse_req_t req, const char*, fuse_ino_t parent, const char* name) {
        if (!of(req).replayed(req, FsCall::kSymlink, parent, name)) of(req).transaction(req);
      };
      o.unlink = [](fuse_req_t req, fuse_ino_t parent, const char* name) {
        if (!of(req).replayed(req, FsCall::kUnlink, parent, name)) of(req).transaction(req);
      };
      o.rmdir = [](fuse_req_t req, fuse_ino_t parent, const char* name) {
        if (!of(req).replayed(req, FsCall::kRmdir, parent, name)) of(req).transaction(req);
      };
      o.rename = [](fuse_req_t req, fuse_ino_t from, const char* name, fuse_ino_t to, const char* new_name, unsigned) {
        if (!of(req).replayed(req, FsCall::kRename, from, name, to, new_name)) of(req).transaction(req);
      };
      o.open = [](fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
        if ((fi->flags & O_ACCMODE) == O_RDONLY) return void(fuse_reply_open(req, fi));
        if (!of(req).replayed(req, FsCall::kOpen, ino, "", 0, "", fi)) of(req).transaction(req);
      };
      o.flush = [](fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
        if (!of(req).replayed(req, FsCall::kFlush, ino)) fuse_reply_err(req, 0);
      };
      o.release = [](fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, 0); };
      return o;
    }();
    return ops;
  }

  std::string path_;
  std::mutex mutex_;
  std::map<std::uint64_t, Node> nodes_;
  std::uint64_t last_ino_ = kNobodysDirectory;
  fuse_session* session_ = nullptr;
  std::thread loop_;
};

class ReplayMount : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs root and /dev/fuse";
    mount = std::make_unique<SmallMount>(temp.path());
    if (!mount->mounted) GTEST_SKIP() << "cannot mount";
    notify = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  }
  void TearDown() override {
    if (notify >= 0) ::close(notify);
    if (mount && mount->mounted) {
      EXPECT_EQ(mount->transactions, 0);
    }
    mount.reset();
    if (const auto left = mount_at(temp.path())) ::umount2(temp.path().c_str(), MNT_DETACH);
  }
  std::string path(const std::string& name) const { return temp.path() + "/" + name; }
  void watch(const std::string& name, const std::string& label) {
    const std::uint32_t mask = IN_ALL_EVENTS & ~static_cast<std::uint32_t>(IN_ACCESS | IN_CLOSE_NOWRITE);
    const int wd = ::inotify_add_watch(notify, path(name).c_str(), mask);
    ASSERT_GE(wd, 0) << std::strerror(errno);
    labels[wd] = label;
  }
  // All events so far, once nothing is left to replay: "LABEL:EVENT name" each.
  std::string events() {
    EXPECT_TRUE(mount->replayer->wait_idle(milliseconds(8000)));
    std::string out;
    alignas(inotify_event) char buffer[8192];
    for (ssize_t n = 0; (n = ::read(notify, buffer, sizeof buffer)) > 0;) {
      for (char* at = buffer; at < buffer + n;) {
        const auto* e = reinterpret_cast<const inotify_event*>(at);
        at += sizeof(inotify_event) + e->len;
        const std::pair<std::uint32_t, const char*> names[] = {
            {IN_CREATE, "CREATE"},         {IN_DELETE, "DELETE"},         {IN_MODIFY, "MODIFY"},
            {IN_ATTRIB, "ATTRIB"},         {IN_OPEN, "OPEN"},             {IN_CLOSE_WRITE, "CLOSE_WRITE"},
            {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"},     {IN_MOVE_SELF, "MOVE_SELF"},
            {IN_IGNORED, "IGNORED"},       {IN_DELETE_SELF, "DELETE_SELF"}};
        for (const auto& [bit, text] : names) {
          if ((e->mask & bit) == 0) continue;
          out += labels[e->wd] + ":" + text + (e->len > 0 ? std::string(" ") + e->name : "") + "\n";
        }
      }
    }
    return out;
  }

  TempDir temp;
  std::unique_ptr<SmallMount> mount;
  int notify = -1;
  std::map<int, std::string> labels;
};

TEST_F(ReplayMount, DataAndAttributes) {
  const auto ino = mount->put("f");
  watch("", "d");
  watch("f", "f");
  mount->remote_data(ino);
  EXPECT_EQ(events(), "d:OPEN f\nf:OPEN\nd:MODIFY f\nf:MODIFY\nd:CLOSE_WRITE f\nf:CLOSE_WRITE\n");
  mount->remote_attributes(ino);
  EXPECT_EQ(events(), "d:ATTRIB f\nf:ATTRIB\n");
}

TEST_F(ReplayMount, Create) {
  watch("", "d");
  mount->remote_create("new");
  mount->remote_create("dir", NodeType::kDirectory);
  mount->remote_create("link", NodeType::kSymlink);
  EXPECT_EQ(events(), "d:CREATE new\nd:OPEN new\nd:CLOSE_WRITE new\nd:CREATE dir\nd:CREATE link\n");
  EXPECT_EQ(::access(path("new").c_str(), F_OK), 0);
}

TEST_F(ReplayMount, CreateOfANameThatSomebodyKnowsAlready) {
  watch("", "d");
  std::atomic<int> looks = 2;  // another process is faster than the helper, twice
  mount->after_invalidation = [&] {
    if (looks-- > 0) {
      EXPECT_EQ(::access(path("new").c_str(), F_OK), 0);
    }
  };
  mount->remote_create("new");
  EXPECT_EQ(events(), "d:CREATE new\nd:OPEN new\nd:CLOSE_WRITE new\n");
  EXPECT_EQ(mount->replayer->counters().raised, 1U);
}

TEST_F(ReplayMount, Delete) {
  const auto file = mount->put("f"), dir = mount->put("sub", NodeType::kDirectory);
  watch("", "d");
  watch("f", "f");
  watch("sub", "s");
  mount->remote_delete(file);
  EXPECT_EQ(events(), "f:ATTRIB\nf:DELETE_SELF\nf:IGNORED\nd:DELETE f\n");
  mount->remote_delete(dir);
  EXPECT_EQ(events(), "s:DELETE_SELF\ns:IGNORED\nd:DELETE sub\n");
  EXPECT_NE(::access(path("f").c_str(), F_OK), 0);
}

// The name is taken by a new node before the old one's delete is out, and the kernel knows the new one.
TEST_F(ReplayMount, DeleteAndCreateUnderOneName) {
  const auto file = mount->put("f");
  watch("", "d");
  watch("f", "old");
  std::atomic<int> looks = 1;
  mount->after_invalidation = [&] {
    if (looks-- > 0) {
      EXPECT_EQ(::access(path("f").c_str(), F_OK), 0);
    }
  };
  {
    const auto fresh = mount->put("f");
    mount->remote_delete(file);
    mount->remote_data(fresh);
  }
  const std::string out = events();
  EXPECT_NE(out.find("old:DELETE_SELF"), std::string::npos) << out;
  EXPECT_NE(out.find("d:DELETE f\n"), std::string::npos) << out;
  struct stat st {};
  ASSERT_EQ(::stat(path("f").c_str(), &st), 0);
  EXPECT_NE(st.st_ino, file);
  EXPECT_EQ(st.st_nlink, 1U);
}

TEST_F(ReplayMount, Rename) {
  const auto a = mount->put("a", NodeType::kDirectory), b = mount->put("b", NodeType::kDirectory);
  const auto file = mount->put("f", NodeType::kFile, a), sub = mount->put("sub", NodeType::kDirectory, a);
  watch("a", "a");
  watch("b", "b");
  watch("a/f", "f");
  watch("a/sub", "s");
  mount->remote_rename(file, b, "g");
  EXPECT_EQ(events(), "a:MOVED_FROM f\nb:MOVED_TO g\nf:MOVE_SELF\n");
  std::atomic<int> looks = 1;  // somebody walks to the new place before the helper: the directory's dentry is there
  mount->after_invalidation = [&] {
    if (looks-- > 0) {
      EXPECT_EQ(::access(path("b/moved").c_str(), F_OK), 0);
    }
  };
  mount->remote_rename(sub, b, "moved");
  EXPECT_EQ(events(), "a:MOVED_FROM sub\nb:MOVED_TO moved\ns:MOVE_SELF\n");
}

TEST_F(ReplayMount, RenameAcrossTheEdgeOfTheMount) {
  const auto outside = mount->put("outside", NodeType::kDirectory);
  const auto file = mount->put("f"), sub = mount->put("sub", NodeType::kDirectory);
  watch("", "d");
  watch("f", "f");
  watch("sub", "s");
  mount->hide(outside);
  mount->remote_rename(file, outside, "f");
  mount->remote_rename(sub, outside, "sub");
  EXPECT_EQ(events(), "d:DELETE f\nd:DELETE sub\n");
  EXPECT_NE(::access(path("f").c_str(), F_OK), 0);
  mount->remote_rename(file, 1, "g");
  mount->remote_rename(sub, 1, "h");
  EXPECT_EQ(events(), "d:CREATE g\nd:OPEN g\nf:OPEN\nd:CLOSE_WRITE g\nf:CLOSE_WRITE\nd:CREATE h\n");
  mount->remote_rename(sub, 1, "i");
  EXPECT_EQ(events(), "d:MOVED_FROM h\nd:MOVED_TO i\ns:MOVE_SELF\n") << "its watch lives";
}

TEST_F(ReplayMount, AKilledHelperIsReplaced) {
  const auto ino = mount->put("f");
  watch("f", "f");
  mount->remote_data(ino);
  EXPECT_NE(events(), "");
  for (pid_t pid = 2, end = ::getpid() + 2000; pid < end; ++pid) {
    if (mount->replayer->is_helper(pid)) ::kill(pid, SIGKILL);
  }
  for (int i = 0; i < 6; ++i) {
    mount->remote_data(ino);
    EXPECT_NE(events().find("f:MODIFY"), std::string::npos) << i;
  }
  EXPECT_GE(mount->replayer->counters().respawned, 1U);
}

TEST_F(ReplayMount, AHungHelperIsReplacedAndItsLateCallsAreHarmless) {
  const auto ino = mount->put("f");
  watch("", "d");
  mount->stall = true;
  mount->remote_delete(ino);
  std::this_thread::sleep_for(milliseconds(3300));  // the deadline passes while the daemon sits on the request
  mount->stall = false;
  EXPECT_NE(events().find("d:DELETE f"), std::string::npos);
  EXPECT_GE(mount->replayer->counters().respawned, 1U);
}

TEST_F(ReplayMount, TheHelperNeverLeavesTheMount) {
  // What another program could make of a path while the helper is on its way: a symlink out of the mount.
  const TempDir outside;
  const std::string precious = outside.path() + "/f";
  ASSERT_GE(::creat(precious.c_str(), 0600), 0);
  const auto dir = mount->put("dir", NodeType::kDirectory);
  const auto file = mount->put("f", NodeType::kFile, dir);
  watch("dir", "d");
  ASSERT_EQ(::mount(outside.path().c_str(), path("dir").c_str(), nullptr, MS_BIND, nullptr), 0);
  mount->remote_delete(file);
  mount->remote_create("g", NodeType::kFile, dir);
  EXPECT_EQ(events(), "");
  ::umount2(path("dir").c_str(), MNT_DETACH);
  EXPECT_EQ(::access(precious.c_str(), F_OK), 0);
  EXPECT_NE(::access((outside.path() + "/g").c_str(), F_OK), 0);
}

TEST_F(ReplayMount, AFloodOfEvents) {
  watch("", "d");
  std::vector<std::uint64_t> inos;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 2000; ++i) inos.push_back(mount->remote_create("n" + std::to_string(i)));
  for (const auto ino : inos) mount->remote_data(ino);
  for (const auto ino : inos) mount->remote_delete(ino);
  ASSERT_TRUE(mount->replayer->wait_idle(std::chrono::seconds(20)));
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
  const auto counters = mount->replayer->counters();
  RecordProperty("us_per_raised", static_cast<int>(took.count() / static_cast<long>(counters.raised + 1)));
  EXPECT_EQ(counters.given_up, 0U);
  EXPECT_EQ(mount->finished_count, 6000);
}

}  // namespace
}  // namespace coord::fs::replay
