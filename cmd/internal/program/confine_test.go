package program

import (
	"log/slog"
	"testing"

	"godwit/security/confine"
)

func TestConfineOnlyWhenAsked(t *testing.T) {
	if err := Confine(slog.Default()); err != nil { // nobody asked: nothing changes
		t.Error(err)
	}
	t.Setenv(confine.Variable, "fly")
	if err := Confine(slog.Default()); err == nil {
		t.Error("an unknown capability was taken")
	}
}
