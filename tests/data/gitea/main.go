// Gitea for the tests: a real forge, with an SQLite that needs no C compiler.
//
// Its own main chooses an SQLite by a build tag, which is one in C. So the database is registered here, by the name that
// Gitea's configuration has for it.
package main

import (
	"database/sql"
	"os"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/log"
	"code.gitea.io/gitea/modules/setting"
	"modernc.org/sqlite"

	_ "code.gitea.io/gitea/modules/markup/markdown"
)

func main() {
	sql.Register("sqlite3", &sqlite.Driver{})
	setting.EnableSQLite3 = true
	setting.SupportedDatabaseTypes = append(setting.SupportedDatabaseTypes, "sqlite3")
	setting.AppVer = "tests"
	err := cmd.RunMainApp(cmd.NewMainApp(cmd.AppVersion{Version: "tests"}), os.Args...)
	log.GetManager().Close()
	if err != nil {
		os.Exit(1)
	}
}
