package mgmt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guardedServer serves a few requests in a folder that others may pass.
func guardedServer(t *testing.T) (*Server, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gwt-access-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mgmt.sock")
	s, err := Serve(path, Backend{
		Version: func(context.Context) (Version, error) { return Version{Version: "1"}, nil },
		Apply: func(context.Context, string, []byte) (Applied, error) {
			return Applied{Changes: []string{"changed"}}, nil
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

// status asks as a user of the system and returns the status of HTTP.
func status(t *testing.T, path, method, request string, uid uint32, groups ...uint32) string {
	t.Helper()
	cmd := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket", path, "http://godwit"+request)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534, Groups: groups}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// Who asks on the socket is what the kernel says; groups decide.
func TestSocketByGroup(t *testing.T) {
	s, path := guardedServer(t)
	const operators, viewers, user = 61001, 61002, 61003
	for _, c := range []struct {
		name      string
		uid       uint32
		groups    []uint32
		get, post string
	}{
		{"root", 0, nil, "200", "200"},
		{"nobody", 65534, nil, "403", "403"},
		{"operator, not yet", user, []uint32{operators}, "403", "403"},
	} {
		if get, post := status(t, path, "GET", "/v1/version", c.uid, c.groups...), status(t, path, "POST", "/v1/apply", c.uid, c.groups...); get != c.get || post != c.post {
			t.Errorf("%s: GET %s, POST %s", c.name, get, post)
		}
	}
	if err := s.SetAccess(Access{Operators: []uint32{operators}, Viewers: []uint32{viewers, 65533}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                        string
		groups                      []uint32
		get, post, deletes, capture string
	}{
		{"operator", []uint32{5, operators}, "200", "200", "400", "400"},
		{"viewer", []uint32{viewers}, "200", "403", "403", "403"},
		{"both", []uint32{viewers, operators}, "200", "200", "400", "400"},
		{"neither", []uint32{61009}, "403", "403", "403", "403"},
	} {
		got := []string{status(t, path, "GET", "/v1/version", user, c.groups...), status(t, path, "POST", "/v1/apply", user, c.groups...),
			status(t, path, "DELETE", "/v1/neighbors?nonsense=1", user, c.groups...), status(t, path, "GET", "/v1/capture?nonsense=1", user, c.groups...)}
		if want := []string{c.get, c.post, c.deletes, c.capture}; strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
	c := NewClient(path) // of the server's own user
	defer c.Close()
	if _, err := c.Version(t.Context()); err != nil {
		t.Error(err)
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue(name, true)
	return a
}

// issue writes DIR/NAME.pem and DIR/NAME.key.
func (a *authority) issue(name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// freePort is an address that nothing listens on.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// askRemote returns the errors of a request that shows and of one that changes.
func askRemote(t *testing.T, at netip.AddrPort, a *authority, name string, ca string) (show, change error) {
	t.Helper()
	c, err := NewRemoteClient(at.String(), a.file(name+".pem"), a.file(name+".key"), ca)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, show = c.Version(t.Context())
	_, change = c.Apply(t.Context(), "x", nil)
	return show, change
}

func forbidden(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusForbidden
}

// The remote API is for clients with a certificate; its name decides.
func TestRemoteByCertificate(t *testing.T) {
	s, _ := guardedServer(t)
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	for _, name := range []string{"router", "alice", "bob", "carol"} {
		ours.issue(name, false)
	}
	other.issue("alice", false)
	r := Remote{Listen: freePort(t), Certificate: ours.file("router.pem"), Key: ours.file("router.key"), Clients: ours.file("ours.pem"), Operators: []string{"alice"}, Viewers: []string{"bob"}}
	set := func(change func(*Remote)) error {
		next := r
		change(&next)
		return s.SetAccess(Access{Remote: &next})
	}
	if err := set(func(*Remote) {}); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		ca := ours.file("ours.pem")
		if show, change := askRemote(t, r.Listen, ours, "alice", ca); show != nil || change != nil {
			t.Errorf("%s: operator: %v, %v", when, show, change)
		}
		if show, change := askRemote(t, r.Listen, ours, "bob", ca); show != nil || !forbidden(change) {
			t.Errorf("%s: viewer: %v, %v", when, show, change)
		}
		if show, change := askRemote(t, r.Listen, ours, "carol", ca); !forbidden(show) || !forbidden(change) {
			t.Errorf("%s: a stranger with a certificate: %v, %v", when, show, change)
		}
		if show, _ := askRemote(t, r.Listen, other, "alice", ca); show == nil || forbidden(show) {
			t.Errorf("%s: another authority's alice: %v", when, show)
		}
		if show, _ := askRemote(t, r.Listen, ours, "alice", other.file("other.pem")); show == nil {
			t.Errorf("%s: the router's certificate was not checked", when)
		}
		resp, err := http.Get("http://" + r.Listen.String() + "/v1/version") // not TLS
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Errorf("%s: an answer without TLS", when)
			}
		}
	}
	check("at first")
	if err := os.Chmod(ours.file("alice.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, change := range map[string]func(*Remote){
		"readable key":     func(r *Remote) { r.Key, r.Certificate = ours.file("alice.key"), ours.file("alice.pem") },
		"no key":           func(r *Remote) { r.Key = "/none" },
		"no certificate":   func(r *Remote) { r.Certificate = "/none" },
		"foreign key":      func(r *Remote) { r.Key = ours.file("bob.key") },
		"no authority":     func(r *Remote) { r.Clients = "/none" },
		"empty authority":  func(r *Remote) { r.Clients = ours.file("bob.key") },
		"address is taken": func(r *Remote) { r.Listen = busy.Addr().(*net.TCPAddr).AddrPort() },
	} {
		if err := set(change); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	check("after changes that failed")
	if err := set(func(r *Remote) { r.Operators, r.Viewers = nil, []string{"alice"} }); err != nil {
		t.Fatal(err)
	}
	if show, change := askRemote(t, r.Listen, ours, "alice", ours.file("ours.pem")); show != nil || !forbidden(change) {
		t.Errorf("alice is a viewer now: %v, %v", show, change)
	}
	r.Clients, r.Certificate, r.Key = other.file("other.pem"), ours.file("carol.pem"), ours.file("carol.key")
	if err := set(func(*Remote) {}); err != nil { // the same address with other files
		t.Fatal(err)
	}
	if show, _ := askRemote(t, r.Listen, other, "alice", ours.file("ours.pem")); show != nil {
		t.Errorf("the other authority: %v", show)
	}
	if err := s.SetAccess(Access{}); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", r.Listen.String()); err == nil {
		c.Close()
		t.Error("it listens still")
	}
}

func TestRemoteClientsFiles(t *testing.T) {
	a := newAuthority(t, "a")
	if _, err := NewRemoteClient("127.0.0.1:1", "/none", a.file("a.key"), a.file("a.pem")); err == nil {
		t.Error("no certificate")
	}
	if _, err := NewRemoteClient("127.0.0.1:1", a.file("a.pem"), a.file("a.key"), a.file("a.key")); err == nil {
		t.Error("no authority")
	}
}
