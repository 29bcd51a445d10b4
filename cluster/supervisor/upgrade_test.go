package supervisor

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"godwit/cluster/wire"
	"godwit/security/elfsig"
)

// TestUpgrade: a module is replaced by a file that was verified before; what is refused changes
// nothing, and says why.
func TestUpgrade(t *testing.T) {
	c := newChassis(t)
	c.boot()
	c.set(wire.ModuleSpec{Name: "linecard-1", Role: "linecard"}, wire.ModuleSpec{Name: "linecard-2", Role: "linecard"})
	first := c.await("linecard-1", "runs", in(stateRunning))
	other := c.await("linecard-2", "runs", in(stateRunning))
	next, err := elfsig.Sign(program, elfsig.Header{Role: "linecard", Name: "godwit-linecard", Version: "1.3.0"}, c.key)
	c.must(err)
	speaker, err := elfsig.Sign(program, elfsig.Header{Role: "bgp", Name: "godwit-bgp", Version: "1.3.0"}, c.key)
	c.must(err)
	altered := bytes.Clone(next)
	altered[len(altered)/2] ^= 1
	for name, data := range map[string][]byte{"next": next, "altered": altered, "speaker": speaker} {
		c.must(os.WriteFile(c.path(name), data, 0o644))
	}
	installed, err := os.ReadFile(c.path("lib/godwit-linecard"))
	c.must(err)
	for _, bad := range []struct{ module, file, why string }{
		{"linecard-7", "", "no such module"}, {"", "", "no such module"}, {"linecard-1", "next", "absolute path"},
		{"linecard-1", c.path("altered"), "signature"}, {"linecard-1", c.path("speaker"), "role"}, {"linecard-1", c.path("none"), "no such file"},
		{"linecard-1", c.dir, "no regular file"}, {"linecard-1", "/dev/zero", "no regular file"},
	} {
		var r wire.UpgradeReply
		if err := c.request(wire.Upgrade, wire.UpgradeBody{Module: bad.module, File: bad.file}, &r); err == nil || !strings.Contains(err.Error(), bad.why) {
			t.Errorf("%s with %q: %v, want %q", bad.module, bad.file, err, bad.why)
		}
	}
	if now, err := os.ReadFile(c.path("lib/godwit-linecard")); err != nil || !bytes.Equal(now, installed) {
		t.Errorf("a refused file was installed: %v", err)
	}
	if st := c.modules()["linecard-1"]; st.PID != first.PID {
		t.Error("a refused upgrade ended the module")
	}
	var r wire.UpgradeReply
	c.must(c.request(wire.Upgrade, wire.UpgradeBody{Module: "linecard-1", File: c.path("next")}, &r))
	if r.Version != "1.3.0" || r.KeyID != first.KeyID {
		t.Errorf("reply %+v", r)
	}
	again := func(pid int) func(wire.ModuleStatus) bool {
		return func(st wire.ModuleStatus) bool { return st.State == stateRunning && st.PID != pid }
	}
	second := c.await("linecard-1", "runs again", again(first.PID))
	if second.Version != "1.3.0" || second.Restarts != 0 || second.LastExit != "exit status 3" {
		t.Errorf("status %+v", second)
	}
	if st := c.modules()["linecard-2"]; st.PID != other.PID {
		t.Error("another card was restarted, too")
	}
	if old, err := os.ReadFile(c.path("lib/godwit-linecard.old")); err != nil || !bytes.Equal(old, installed) {
		t.Errorf("the old file is not kept: %v", err)
	}
	// The others follow, one at a time; so does the routing engine.
	c.must(c.request(wire.Upgrade, wire.UpgradeBody{Module: "linecard-2"}, &r))
	if st := c.await("linecard-2", "runs again", again(other.PID)); st.Version != "1.3.0" {
		t.Errorf("status %+v", st)
	}
	router := c.modules()["router"]
	c.must(c.request(wire.Upgrade, wire.UpgradeBody{Module: "router"}, &r))
	c.await("router", "runs again", again(router.PID))
	for _, name := range []string{"godwit-linecard.new", "godwit-bgp.old"} {
		if _, err := os.Stat(c.path("lib/" + name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	c.stop()
}
