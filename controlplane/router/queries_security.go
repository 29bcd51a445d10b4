package router

import (
	"context"
	"fmt"
	"net/http"

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

// upgrade lets the supervisor replace a module; it verifies the file before.
func (r *Router) upgrade(ctx context.Context, q mgmt.UpgradeQuery) (mgmt.Done, error) {
	if q.Module == "" {
		return mgmt.Done{}, &mgmt.Error{Status: http.StatusBadRequest, Message: "upgrade which module?"}
	}
	u, err := ask[wire.UpgradeReply](ctx, r, r.supervisorSession, "supervisor", wire.Upgrade, wire.UpgradeBody{Module: q.Module, File: q.File})
	if err != nil {
		return mgmt.Done{}, err
	}
	return mgmt.Done{Message: fmt.Sprintf("%s starts again as version %s (build %s, key %s); see show modules", q.Module, orDash(u.Version), orDash(u.BuildID), orDash(u.KeyID))}, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
