package mgmt

import (
	"context"
	"testing"

	"godwit/cluster/wire"
	"godwit/security/audit"
)

func TestSecurityOverTheSocket(t *testing.T) {
	var asked wire.AuditQuery
	c, _ := serve(t, Backend{
		Security: func(context.Context) (Security, error) { return Security{Mode: "verified only"}, nil },
		Audit: func(_ context.Context, q wire.AuditQuery) (Audit, error) {
			asked = q
			return Audit{Events: []audit.Event{{Sequence: 7, Verdict: audit.Denied}}}, nil
		},
	})
	if s, err := c.Security(context.Background()); err != nil || s.Mode != "verified only" {
		t.Errorf("%+v, %v", s, err)
	}
	q := wire.AuditQuery{Count: 5, Denied: true}
	if a, err := c.Audit(context.Background(), q); err != nil || asked != q || len(a.Events) != 1 || a.Events[0].Sequence != 7 {
		t.Errorf("%+v, %v, asked %+v", a, err, asked)
	}
	if _, err := c.Audit(context.Background(), wire.AuditQuery{Count: -1}); err == nil {
		t.Error("a negative count was taken")
	}
}
