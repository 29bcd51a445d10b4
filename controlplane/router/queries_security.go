package router

import (
	"context"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
)

func (r *Router) showSecurity(ctx context.Context) (mgmt.Security, error) {
	return ask[wire.SecurityStatus](ctx, r, r.supervisorSession, "supervisor", wire.GetSecurity, struct{}{})
}

func (r *Router) showAudit(ctx context.Context, q wire.AuditQuery) (mgmt.Audit, error) {
	list, err := ask[wire.AuditList](ctx, r, r.supervisorSession, "supervisor", wire.GetAudit, q)
	return mgmt.Audit{Events: orEmpty(list.Events)}, err
}
