package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
)

// securityCommand is "show security".
var securityCommand = command{name: "security", help: "show what may run: trust store, minimum versions, alarms, confinement",
	example: "  godwit show security\n  godwit show security audit denied count 20",
	words: []word{{key: "audit", help: "the verdicts on modules, the latest last"},
		{key: "denied", help: "with audit: only what was not allowed"},
		{key: "count", value: "N", help: "with audit: the latest so many"}},
	run: showSecurity}

func showSecurity(ctx context.Context, e *Env, w words) error {
	r := reader{w: w}
	q := wire.AuditQuery{Count: r.number("count", 1, 1_000_000), Denied: w.has("denied")}
	if r.err != nil {
		return r.err
	}
	if !w.has("audit") {
		if w.has("denied") || w.has("count") {
			return usageError{"\"denied\" and \"count\" go with \"audit\""}
		}
		return shown(func(ctx context.Context, e *Env, _ words) (mgmt.Security, error) { return e.client.Security(ctx) }, textSecurity)(ctx, e, w)
	}
	return shown(func(ctx context.Context, e *Env, _ words) (mgmt.Audit, error) { return e.client.Audit(ctx, q) }, textAudit)(ctx, e, w)
}

func textSecurity(w io.Writer, s mgmt.Security) {
	if s.Mode == "permissive" {
		fmt.Fprintln(w, "*** PERMISSIVE: modules run that would be refused ***")
	}
	if s.Unconfined {
		fmt.Fprintln(w, "*** UNCONFINED: modules run as root with all it may do (--no-confine) ***")
	}
	fmt.Fprintf(w, "signatures: %s; kernel: %s\n", s.Mode, s.Kernel)
	fmt.Fprintf(w, "verdicts: %d allowed, %d not\n", s.Allowed, s.Denied)
	t := s.Trust
	switch {
	case t.Error != "":
		fmt.Fprintf(w, "trust store %s: NOT USABLE, nothing starts: %s\n", t.Directory, t.Error)
	case t.Root == "":
		fmt.Fprintf(w, "trust store %s: not signed (no root key is set), %d revocations\n", t.Directory, t.Revocations)
	default:
		fmt.Fprintf(w, "trust store %s: version %s signed by root key %s, %d revocations\n", t.Directory, t.Version, t.Root, t.Revocations)
	}
	if t.Development {
		fmt.Fprintln(w, "*** the trust store allows development keys ***")
	}
	table(w, "\nKEY|LABEL|SIGNS|STATE", func(row func(...any)) {
		for _, k := range t.Keys {
			row(k.ID, k.Label, orAll(k.Roles), keyState(t, k))
		}
	})
	table(w, "\nROLE|NAME|MINIMUM VERSION", func(row func(...any)) {
		for _, f := range s.Floors {
			row(f.Role, f.Name, f.Version)
		}
	})
	table(w, "\nMODULE|PID|UID|NO NEW PRIVS|SECCOMP|MEMORY|TASKS|CAPABILITIES", func(row func(...any)) {
		for _, c := range s.Confined {
			row(c.Module, c.PID, c.UID, c.NoNewPrivs, dash(c.Seccomp), limit(c.Memory/1e6, " MB"), limit(int64(c.Tasks), ""), capabilities(c))
		}
	})
	table(w, "\nALARM|ROLE|FILE|SINCE|TIMES", func(row func(...any)) {
		for _, a := range s.Alarms {
			row(a.Reason, a.Role, a.File, since(a.Since), a.Count)
		}
	})
}

func limit(n int64, unit string) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n, unit)
}

func orAll(roles []string) string {
	if len(roles) == 0 {
		return "all"
	}
	return strings.Join(roles, ",")
}

func keyState(t wire.TrustStatus, k wire.TrustKey) string {
	switch {
	case k.Revoked:
		return "revoked"
	case k.Development && !t.Development:
		return "refused: development"
	case k.Development:
		return "development"
	}
	return "trusted"
}

// allCapabilities is how many capabilities mean "all": what root has.
const allCapabilities = 38

func capabilities(c wire.Confinement) string {
	switch n := strings.Count(c.Capabilities, ",") + 1; {
	case c.Error != "":
		return c.Error
	case c.Capabilities == "":
		return "none"
	case n >= allCapabilities:
		return "all"
	}
	return c.Capabilities
}

func textAudit(w io.Writer, a mgmt.Audit) {
	table(w, "TIME|VERDICT|REASON|ROLE|FILE|VERSION|KEY|BUILD", func(row func(...any)) {
		for _, e := range a.Events {
			row(e.Time.UTC().Format(time.RFC3339), e.Verdict, dash(e.Reason), e.Role, e.File, dash(e.Version), dash(e.KeyID), dash(fmt.Sprintf("%.12s", e.BuildID)))
		}
	})
}
