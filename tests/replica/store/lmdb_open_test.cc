// What open_lmdb refuses, and that it leaves refused directories as they were.
#include <gtest/gtest.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "replica/store/lmdb_env.h"
#include "replica/store/meta_records.h"
#include "replica/store/schema.h"
#include "replica/store/store.h"
#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

namespace fs = std::filesystem;

// All files of a directory with their bytes, but LMDB's and our lock files.
std::map<std::string, std::string> image(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (name != schema::kLockFile && name != schema::kLmdbLockFile) files[name] = slurp(entry.path());
  }
  return files;
}

class LmdbOpenTest : public ::testing::Test {
 protected:
  // A store with something of everything: log 1:1 to 1:3, nodes 1 and 2, session 5.
  void fill() {
    Durable durable;
    auto store = open_lmdb(options);
    ASSERT_TRUE(store) << store.error().message;
    durable.attach(**store);
    Writer writer(**store);
    Batch first = writer.adopt(1);
    first.identity = Identity{std::string(32, 'c'), std::string(32, 's')};
    writer.submit(std::move(first));
    writer.submit(writer.entries(3, "payload"));
    Batch b = writer.batch();
    b.fold = fold_at(Zxid{1, 1});
    b.fold->nodes = {{NodeId{1}, "one"}, {NodeId{2}, "two"}};
    b.fold->sessions = {{SessionId{5}, "five"}};
    writer.submit(std::move(b));
    ASSERT_TRUE(durable.wait(3));
    cluster_id = std::string(32, 'c');
  }
  // Opens, reads everything, and gives the message of the Fault; empty: there was none.
  std::string message() {
    auto store = open_lmdb(options);
    if (!store) return store.error().message;
    auto all = read_all(**store);
    return all ? "" : all.error().message;
  }
  void expect_refused_untouched(const std::string& why) {
    const auto before = image(options.directory);
    const std::string text = message();
    EXPECT_NE(text.find(why), std::string::npos) << text;
    EXPECT_NE(text.find(options.directory), std::string::npos) << text;
    EXPECT_EQ(image(options.directory), before);
  }
  // Changes records behind the store's back.
  void tamper(const char* db, const std::function<int(MDB_txn*, MDB_dbi)>& change) {
    Env env;
    ASSERT_EQ(env.open(options.directory, options.map_bytes, 0), 0);
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    MDB_dbi dbi = 0;
    ASSERT_EQ(mdb_dbi_open(txn.get(), db, 0, &dbi), 0);
    ASSERT_EQ(change(txn.get(), dbi), 0);
    ASSERT_EQ(txn.commit(), 0);
  }
  void flip(const char* db, std::string_view key, std::size_t offset) {
    tamper(db, [&](MDB_txn* txn, MDB_dbi dbi) {
      MDB_val k = to_val(key);
      MDB_val v{};
      if (const int rc = mdb_get(txn, dbi, &k, &v); rc != 0) return rc;
      std::string value(to_view(v));
      value[offset < value.size() ? offset : value.size() - 1] ^= 1;
      MDB_val changed = to_val(value);
      return mdb_put(txn, dbi, &k, &changed, 0);
    });
  }

  TempDir dir;
  LmdbOptions options = small_options(dir / "data");
  std::string cluster_id;
};

TEST_F(LmdbOpenTest, parent_must_exist_and_path_must_be_a_directory) {
  options.directory = dir / "no/such";
  EXPECT_NE(message().find("No such file"), std::string::npos) << message();
  options.directory = dir / "file";
  std::ofstream(options.directory) << "x";
  EXPECT_NE(message().find("not a directory"), std::string::npos) << message();
  options.directory = "";
  EXPECT_NE(message().find("no data directory"), std::string::npos);
}

TEST_F(LmdbOpenTest, a_missing_directory_is_made_for_its_owner_alone) {
  EXPECT_EQ(message(), "");
  struct stat st {};
  ASSERT_EQ(::stat(options.directory.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0700U);
  ASSERT_EQ(::stat((options.directory + "/data.mdb").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777U, 0600U);
}

TEST_F(LmdbOpenTest, foreign_files_without_a_database_are_named) {
  fs::create_directory(options.directory);
  fs::create_directory(options.directory + "/version-2");
  std::ofstream(options.directory + "/version-2/snapshot.0") << "zk";
  std::ofstream(options.directory + "/myid") << "1";
  const std::string text = message();
  EXPECT_NE(text.find("version-2"), std::string::npos) << text;
  EXPECT_EQ(text.find("myid"), std::string::npos) << text;
  EXPECT_FALSE(fs::exists(options.directory + "/data.mdb"));
  EXPECT_FALSE(fs::exists(options.directory + "/coord.lock"));
}

TEST_F(LmdbOpenTest, what_an_administrator_puts_there_is_no_obstacle) {
  fs::create_directory(options.directory);
  for (const char* name : {"/myid", "/zoo.cfg"}) std::ofstream(options.directory + name) << "1";
  fs::create_directory(options.directory + "/lost+found");
  EXPECT_EQ(message(), "");
}

TEST_F(LmdbOpenTest, a_second_open_is_refused_until_the_first_is_gone) {
  auto first = open_lmdb(options);
  ASSERT_TRUE(first);
  const std::string text = message();
  EXPECT_NE(text.find("in use by another process"), std::string::npos) << text;
  EXPECT_NE(text.find(options.directory), std::string::npos);
  first->reset();
  EXPECT_EQ(message(), "");
}

TEST_F(LmdbOpenTest, another_server_id_is_refused_untouched) {
  fill();
  options.sid = Sid{2};
  expect_refused_untouched("server id 1");
}

TEST_F(LmdbOpenTest, another_cluster_is_refused_untouched) {
  fill();
  options.cluster_id = std::string(32, 'a');
  expect_refused_untouched(cluster_id);
  options.cluster_id = cluster_id;
  EXPECT_EQ(message(), "");
}

TEST_F(LmdbOpenTest, a_bad_cluster_id_is_refused_and_a_good_one_taken) {
  options.cluster_id = "production";
  EXPECT_NE(message().find("32 hexadecimal"), std::string::npos) << message();
  EXPECT_FALSE(fs::exists(options.directory + "/data.mdb"));
  options.cluster_id = "00112233445566778899aabbccddeeff";
  auto store = open_lmdb(options);
  ASSERT_TRUE(store);
  EXPECT_EQ((*store)->meta().cluster_id, "") << "a new directory adopts one with its first history";
}

TEST_F(LmdbOpenTest, another_format_version_is_refused_untouched) {
  fill();
  tamper("meta", [](MDB_txn* txn, MDB_dbi dbi) {
    return put_record(txn, dbi, schema::kFormat, std::string_view("\0\0\0\x09", 4));
  });
  expect_refused_untouched("format version 9");
}

TEST_F(LmdbOpenTest, an_environment_of_another_program_is_refused_untouched) {
  fs::create_directory(options.directory);
  {
    Env env;
    ASSERT_EQ(env.open(options.directory, options.map_bytes, 0), 0);
    Txn txn;
    ASSERT_EQ(txn.begin(env, 0), 0);
    MDB_dbi dbi = 0;
    ASSERT_EQ(mdb_dbi_open(txn.get(), "theirs", MDB_CREATE, &dbi), 0);
    ASSERT_EQ(txn.commit(), 0);
  }
  expect_refused_untouched("not one of this program");
}

TEST_F(LmdbOpenTest, a_file_that_is_no_environment_is_refused_untouched) {
  fs::create_directory(options.directory);
  std::ofstream(options.directory + "/data.mdb") << std::string(10000, 'x');
  expect_refused_untouched("data.mdb");
}

TEST_F(LmdbOpenTest, a_file_that_was_cut_off_is_refused_untouched) {
  fill();
  fs::resize_file(options.directory + "/data.mdb", 4 * 4096);
  expect_refused_untouched("cut off");
}

TEST_F(LmdbOpenTest, an_environment_without_databases_is_a_directory_in_the_making) {
  fs::create_directory(options.directory);
  {
    Env env;
    ASSERT_EQ(env.open(options.directory, options.map_bytes, 0), 0);
  }
  EXPECT_EQ(message(), "");
  fs::remove_all(options.directory);
  fs::create_directory(options.directory);
  std::ofstream(options.directory + "/data.mdb");  // died right after creating the file
  EXPECT_EQ(message(), "");
}

TEST_F(LmdbOpenTest, a_data_file_that_was_never_finished_is_begun_again) {
  fs::create_directory(options.directory);
  std::ofstream(options.directory + "/data.mdb.new") << std::string(8192, '\0');
  EXPECT_EQ(message(), "");
  EXPECT_FALSE(fs::exists(options.directory + "/data.mdb.new"));
  EXPECT_TRUE(fs::exists(options.directory + "/data.mdb"));
}

TEST_F(LmdbOpenTest, one_changed_byte_in_any_record_is_found_and_named) {
  struct Case {
    const char* db;
    std::string key;
    const char* named;
  };
  const auto number = [](std::uint64_t n) { return std::string(schema::Key(n).view()); };
  const std::vector<Case> cases = {
      {"log", number((Zxid{1, 2}).value), "log/"},
      {"node", number(2), "node/2"},
      {"session", number(5), "session/5"},
      {"meta", std::string(schema::kFormat), "meta/format"},
      {"meta", std::string(schema::kIdentity), "meta/identity"},
      {"meta", std::string(schema::kSecret), "meta/secret"},
      {"meta", std::string(schema::kEpochs1), "meta/epochs.1"},
      {"meta", std::string(schema::kEpochs2), "meta/epochs.2"},
      {"meta", std::string(schema::kPositions), "meta/positions"},
      {"meta", std::string(schema::kCounters), "meta/counters"},
  };
  fill();
  for (const Case& c : cases) {
    for (const std::size_t offset : {0UL, 4UL, 6UL, 1000UL}) {  // checksum, body, its last byte
      flip(c.db, c.key, offset);
      const std::string text = message();
      EXPECT_NE(text.find(c.named), std::string::npos) << c.named << " offset " << offset << ": " << text;
      EXPECT_NE(text.find("damaged"), std::string::npos) << text;
      EXPECT_NE(text.find("backup"), std::string::npos) << text;
      flip(c.db, c.key, offset);
    }
  }
  EXPECT_EQ(message(), "");
}

TEST_F(LmdbOpenTest, a_record_under_another_key_is_found) {
  fill();
  tamper("node", [](MDB_txn* txn, MDB_dbi dbi) {  // node 2's bytes as node 3
    const schema::Key two(std::uint64_t{2});
    const schema::Key three(std::uint64_t{3});
    MDB_val k = to_val(two.view());
    MDB_val v{};
    if (const int rc = mdb_get(txn, dbi, &k, &v); rc != 0) return rc;
    std::string copy(to_view(v));
    MDB_val to = to_val(three.view());
    MDB_val value = to_val(copy);
    return mdb_put(txn, dbi, &to, &value, 0);
  });
  EXPECT_NE(message().find("node/3"), std::string::npos) << message();
}

TEST_F(LmdbOpenTest, epochs_that_differ_or_are_missing_are_refused_untouched) {
  fill();
  tamper("meta", [](MDB_txn* txn, MDB_dbi dbi) {
    return put_record(txn, dbi, schema::kEpochs2, std::string_view("\0\0\0\x09\0\0\0\x01\0\0\0\0", 12));
  });
  expect_refused_untouched("differ");
  tamper("meta", [](MDB_txn* txn, MDB_dbi dbi) {
    MDB_val k = to_val(schema::kEpochs1);
    return mdb_del(txn, dbi, &k, nullptr);
  });
  expect_refused_untouched("epochs.1 is missing");
}

TEST_F(LmdbOpenTest, epochs_below_the_log_are_refused_untouched) {
  fill();
  tamper("meta", [](MDB_txn* txn, MDB_dbi dbi) { return write_epochs(txn, dbi, Epochs{5, 0, {}}); });
  expect_refused_untouched("contradicts the log");
}

TEST_F(LmdbOpenTest, a_log_that_lost_its_end_or_a_link_is_refused) {
  fill();
  tamper("log", [](MDB_txn* txn, MDB_dbi dbi) {
    const schema::Key key(Zxid{1, 2});
    MDB_val k = to_val(key.view());
    return mdb_del(txn, dbi, &k, nullptr);
  });
  EXPECT_NE(message().find("follows"), std::string::npos) << message();
  tamper("log", [](MDB_txn* txn, MDB_dbi dbi) {
    const schema::Key key(Zxid{1, 3});
    MDB_val k = to_val(key.view());
    return mdb_del(txn, dbi, &k, nullptr);
  });
  expect_refused_untouched("should end at");
}

TEST_F(LmdbOpenTest, readers_that_died_do_not_keep_the_store_from_working) {
  fill();
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // a tool that looks in and is killed with its transaction open
    Env env;
    Txn txn;
    const bool ok = env.open(options.directory, options.map_bytes, MDB_RDONLY) == 0 && txn.begin(env, MDB_RDONLY) == 0;
    static_cast<void>(!::write(ready[1], ok ? "y" : "n", 1));
    ::pause();
    ::_exit(0);
  }
  char ok = 0;
  ASSERT_EQ(::read(ready[0], &ok, 1), 1);
  EXPECT_EQ(ok, 'y');
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ::close(ready[0]);
  ::close(ready[1]);

  Durable durable;
  auto store = open_lmdb(options);
  ASSERT_TRUE(store) << store.error().message;
  durable.attach(**store);
  Writer writer(**store);
  for (int i = 0; i < 300; ++i) {
    Batch b = writer.batch();
    b.fold = fold_at(Zxid{1, 1});
    for (std::uint64_t n = 0; n < 20; ++n) b.fold->nodes.emplace_back(NodeId{n}, std::string(1000, 'n'));
    writer.submit(std::move(b));
    ASSERT_TRUE(durable.wait(writer.id()));
  }
  EXPECT_LT((*store)->space().used_bytes, 2U << 20) << "a dead reader pins pages";
}

TEST_F(LmdbOpenTest, a_sparse_copy_is_made_solid) {
  fill();
  const std::string file = options.directory + "/data.mdb";
  const std::string bytes = slurp(file);
  const auto used = [&] {
    Env env;
    EXPECT_EQ(env.open(options.directory, options.map_bytes, MDB_RDONLY), 0);
    return env.used_bytes();
  }();
  fs::remove(file);
  std::ofstream(file, std::ios::binary) << bytes.substr(0, used);
  fs::resize_file(file, bytes.size());  // the rest is a hole
  EXPECT_EQ(message(), "");
  struct stat st {};
  ASSERT_EQ(::stat(file.c_str(), &st), 0);
  EXPECT_GE(static_cast<std::uint64_t>(st.st_blocks) * 512, used + options.grow_bytes);
  EXPECT_EQ(message(), "");
}

}  // namespace
}  // namespace coord::store
