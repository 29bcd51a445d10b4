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
	for _, bad := range []string{"", "fly", `{"role":"pilot"}`, `{"role":"bgp","caps":-1}`} {
		t.Setenv(confine.Variable, bad)
		if err := Confine(slog.Default()); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
