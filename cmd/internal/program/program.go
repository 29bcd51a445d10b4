// Package program holds what every module's main does alike: say which build it
// is, and log in the form that the supervisor asks for.
package program

import (
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"godwit/cluster/wire"
)

// LogFormat is the environment variable by which the supervisor passes on its
// --log-format: "text" or "json".
const LogFormat = "GODWIT_LOG_FORMAT"

// Logger writes to w in the supervisor's form, from the given level on (nil: info).
func Logger(w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if os.Getenv(LogFormat) == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Version is the version that the go command took from version control.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		if v, ok := strings.CutPrefix(info.Main.Version, "v"); ok {
			return v
		}
	}
	return "0.0.0-devel"
}

// Revision is the commit that this program was built from, if that is known.
func Revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

// Info is what a module says of itself.
func Info(name, role string) wire.ModuleInfo {
	return wire.ModuleInfo{Name: name, Role: role, Version: Version(), BuildID: Revision(), PID: os.Getpid(), Started: time.Now()}
}
