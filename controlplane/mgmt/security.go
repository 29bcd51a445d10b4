package mgmt

import (
	"context"
	"net/url"

	"godwit/cluster/wire"
	"godwit/security/audit"
)

// Security says what may run, and what did not.
type Security = wire.SecurityStatus

// Audit lists verdicts on modules, the oldest first.
type Audit struct {
	Events []audit.Event `json:"events"`
}

// maxAudit bounds the verdicts asked for.
const maxAudit = 1_000_000

func auditValues(q wire.AuditQuery) url.Values {
	f := fields{}
	f.num("count", q.Count)
	f.flag("denied", q.Denied)
	return url.Values(f)
}

func parseAuditQuery(v url.Values) (wire.AuditQuery, error) {
	p := params{v: v}
	q := wire.AuditQuery{Count: p.num("count", 0, maxAudit), Denied: p.flag("denied")}
	return q, p.done()
}

// Security asks what may run.
func (c *Client) Security(ctx context.Context) (Security, error) {
	return get[Security](ctx, c, "/v1/security", nil)
}

// Audit asks for the verdicts on modules.
func (c *Client) Audit(ctx context.Context, q wire.AuditQuery) (Audit, error) {
	return get[Audit](ctx, c, "/v1/security/audit", auditValues(q))
}
