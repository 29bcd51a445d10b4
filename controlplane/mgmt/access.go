package mgmt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"godwit/security/peer"
)

// Access says who may ask, and what. Root and the routing engine's own user may
// do everything on the socket; others by their groups, as the kernel tells them
// (SO_PEERCRED, SO_PEERGROUPS). Viewers may ask what changes nothing and shows no
// packets; operators everything.
type Access struct {
	Operators, Viewers []uint32 // groups of the system
	Remote             *Remote  // nil: there is no remote API
}

// Remote is the API over TLS 1.3, for clients with a certificate.
type Remote struct {
	Listen                    netip.AddrPort
	Certificate, Key, Clients string   // files in PEM; Clients: the authorities that sign clients' certificates
	Operators, Viewers        []string // common names of clients' certificates
}

// level is what a client may do.
type level int

const (
	nothing level = iota
	viewer
	operator
)

// needs is the level that a request takes.
func needs(r *http.Request) level {
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Path != "/v1/capture" {
		return viewer
	}
	return operator
}

// peerKey is the context key of a connection's peer.
type peerKey struct{}

// withPeer puts who has connected into the context of the requests.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		if p, err := peer.Of(u); err == nil {
			return context.WithValue(ctx, peerKey{}, p)
		}
	}
	return ctx
}

// levelOf tells what a request's sender may do, and who it is.
func (a *Access) levelOf(r *http.Request) (level, string) {
	if r.TLS != nil {
		if a.Remote == nil || len(r.TLS.VerifiedChains) == 0 {
			return nothing, "a client without certificate"
		}
		name := r.TLS.PeerCertificates[0].Subject.CommonName
		return higher(slices.Contains(a.Remote.Operators, name), slices.Contains(a.Remote.Viewers, name)), fmt.Sprintf("certificate %q", name)
	}
	p, ok := r.Context().Value(peerKey{}).(peer.Peer)
	if !ok {
		return nothing, "an unknown process"
	}
	who := fmt.Sprintf("user %d (process %d)", p.UID, p.PID)
	if p.UID == 0 || p.UID == os.Geteuid() {
		return operator, who
	}
	return higher(p.In(a.Operators), p.In(a.Viewers)), who
}

func higher(isOperator, isViewer bool) level {
	switch {
	case isOperator:
		return operator
	case isViewer:
		return viewer
	}
	return nothing
}

// guarded lets those requests through whose sender may make them.
func guarded(next http.Handler, access *atomic.Pointer[Access], log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		may, who := access.Load().levelOf(r)
		if need := needs(r); may < need {
			log.Warn("management request refused", "from", who, "method", r.Method, "path", r.URL.Path)
			w.Header().Set("Connection", "close") // strangers hold no connections
			want := "an operator"
			if need == viewer {
				want = "an operator or a viewer"
			}
			fail(w, &Error{http.StatusForbidden, fmt.Sprintf("%s is not %s of this router", who, want)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// remote serves the API over TLS.
type remote struct {
	http *http.Server
	tcp  *net.TCPListener
	done chan struct{}
	conf Remote
}

// openKey refuses a private key that others may read.
func openKey(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if st.Mode()&0o077 != 0 {
		return nil, fmt.Errorf("key %s has mode %o: only its owner may read it (chmod 600)", path, st.Mode().Perm())
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return key, nil
}

func (c *Remote) tls() (*tls.Config, error) {
	key, err := openKey(c.Key)
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and its key: %w", c.Certificate, err)
	}
	pool, err := authorities(c.Clients)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"},
	}, nil
}

func authorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("authorities %s: no certificate in PEM", path)
	}
	return pool, nil
}

// SetAccess changes who may ask, and where from. On an error nothing changes.
// It may be called from any goroutine, one at a time; requests under way go on.
func (s *Server) SetAccess(a Access) error {
	old := s.remote
	switch {
	case a.Remote == nil:
		s.access.Store(&a)
		s.remote = nil
		return old.close()
	case old != nil && old.conf.same(a.Remote):
		s.access.Store(&a)
		return nil
	}
	conf, err := a.Remote.tls()
	if err != nil {
		return fmt.Errorf("remote management: %w", err)
	}
	l, err := old.listen(a.Remote.Listen)
	if err != nil {
		return fmt.Errorf("remote management: %w", err)
	}
	s.access.Store(&a)
	s.remote = s.serveRemote(l, conf, *a.Remote)
	return old.close()
}

// listen opens an address; that of r itself by a second descriptor of the same
// socket, so that no client is refused meanwhile.
func (r *remote) listen(at netip.AddrPort) (*net.TCPListener, error) {
	if r == nil || r.conf.Listen != at {
		return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	}
	f, err := r.tcp.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// same tells whether the listener may stay: lists of names are looked up at each request.
func (c *Remote) same(o *Remote) bool {
	return c.Listen == o.Listen && c.Certificate == o.Certificate && c.Key == o.Key && c.Clients == o.Clients
}

func (s *Server) serveRemote(l *net.TCPListener, conf *tls.Config, is Remote) *remote {
	r := &remote{tcp: l, done: make(chan struct{}), conf: is}
	r.http = &http.Server{
		Handler: s.http.Handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: s.http.BaseContext, ErrorLog: s.http.ErrorLog,
	}
	go func() {
		defer close(r.done)
		if err := r.http.Serve(tls.NewListener(l, conf)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("remote management API ended", "error", err)
		}
	}()
	s.log.Info("remote management API", "listen", l.Addr().String())
	return r
}

func (r *remote) close() error {
	if r == nil {
		return nil
	}
	err := r.http.Close()
	<-r.done
	return err
}

// NewRemoteClient makes a client of a router's remote API: host and port, and the
// files of the client's certificate, its key, and the authorities that sign the
// router's.
func NewRemoteClient(address, certificate, key, authority string) (*Client, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("client's certificate: %w", err)
	}
	pool, err := authorities(authority)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool},
	}
	return &Client{http: &http.Client{Transport: t}, scheme: "https", host: address}, nil
}
