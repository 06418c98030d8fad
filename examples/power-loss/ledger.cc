// The program under test: a ledger in SQLite.
//
//   ledger create                 makes the database: a thousand accounts, all empty
//   ledger transfer COUNT PRAGMA… makes COUNT transfers under these settings, each in a transaction of its own
//   ledger query SQL              prints the first column of the answer
//
// A transfer takes 1 from each of 50 accounts and gives the 50 to another: money moves, and none is made or lost. Each
// tells what it has come to: "begun 7", "written 7", "committed 7". Who reads "committed 7" relies on it.
#include <sqlite3.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace {

class Database {
 public:
  Database() {
    Check(sqlite3_open("/var/lib/ledger.db", &database_));
    sqlite3_busy_timeout(database_, 10'000);
  }

  // Runs statements and returns the first column of the last row.
  std::string Run(const std::string& sql) {
    std::string answer;
    auto keep = [](void* out, int, char** columns, char**) {
      *static_cast<std::string*>(out) = columns[0] != nullptr ? columns[0] : "nothing";
      return 0;
    };
    Check(sqlite3_exec(database_, sql.c_str(), keep, &answer, nullptr));
    return answer;
  }

 private:
  void Check(int result) {
    if (result != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(database_));
  }

  // Never closed: SQLite would tidy up then, and a power cut gives no warning.
  sqlite3* database_ = nullptr;
};

void Tell(const char* what, const std::string& number) {
  std::printf("%s %s\n", what, number.c_str());
  std::fflush(stdout);
}

void Create(Database& database) {
  database.Run(R"(
    CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL, note TEXT NOT NULL);
    CREATE TABLE transfer (number INTEGER PRIMARY KEY);
    WITH RECURSIVE numbers(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM numbers WHERE id < 999)
      INSERT INTO account SELECT id, 0, hex(randomblob(100)) FROM numbers;
    INSERT INTO transfer VALUES (0);)");
}

void Transfer(Database& database) {
  database.Run("BEGIN IMMEDIATE");
  std::string number = database.Run("SELECT max(number) + 1 FROM transfer");
  Tell("begun", number);
  database.Run("INSERT INTO transfer VALUES (" + number + ");" +
               "UPDATE account SET balance = balance - 1 WHERE id % 20 = " + number + " % 20;" +
               "UPDATE account SET balance = balance + 50 WHERE id = " + number + " % 1000;");
  Tell("written", number);
  database.Run("COMMIT");
  Tell("committed", number);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string command = argc > 1 ? argv[1] : "";
  Database database;
  if (command == "create") {
    Create(database);
  } else if (command == "transfer" && argc > 2) {
    database.Run("PRAGMA cache_size = 10");  // so small that a transaction is written before it is committed
    for (int i = 3; i < argc; ++i) database.Run(std::string("PRAGMA ") + argv[i]);
    for (int left = std::atoi(argv[2]); left > 0; --left) Transfer(database);
  } else if (command == "query" && argc == 3) {
    std::puts(database.Run(argv[2]).c_str());
  } else {
    throw std::runtime_error("usage: ledger create, ledger transfer COUNT PRAGMA…, ledger query SQL");
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "ledger: %s\n", error.what());
  return 1;
}
