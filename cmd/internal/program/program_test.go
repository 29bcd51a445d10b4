package program

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"testing"
)

func TestLoggerFollowsTheSupervisor(t *testing.T) {
	var b bytes.Buffer
	Logger(&b, nil).Info("text", "k", 1)
	if !bytes.Contains(b.Bytes(), []byte("msg=text k=1")) {
		t.Errorf("text: %s", b.String())
	}
	t.Setenv(LogFormat, "json")
	b.Reset()
	level := &slog.LevelVar{}
	level.Set(slog.LevelWarn)
	log := Logger(&b, level)
	log.Info("below the level")
	log.Warn("json")
	var line struct{ Msg string }
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Msg != "json" {
		t.Errorf("json: %v, %s", err, b.String())
	}
}

func TestInfoNamesThisProcess(t *testing.T) {
	i := Info("linecard-1", "linecard")
	if i.Name != "linecard-1" || i.Role != "linecard" || i.PID != os.Getpid() || i.Version == "" || i.Started.IsZero() {
		t.Errorf("%+v", i)
	}
}
