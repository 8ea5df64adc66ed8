package server

import (
	"context"
	"strings"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
)

// ListDatabaseRoles lists the roles of a database, the system roles among them, by name.
func (a *databaseService) ListDatabaseRoles(_ context.Context, r *databasepb.ListDatabaseRolesRequest) (*databasepb.ListDatabaseRolesResponse, error) {
	d, err := a.find(strings.TrimSuffix(r.GetParent(), "/databaseRoles"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, role := range d.store.Schema().Roles {
		names = append(names, d.name+"/databaseRoles/"+role.Name)
	}
	names, next, err := page(names, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &databasepb.ListDatabaseRolesResponse{NextPageToken: next}
	for _, n := range names {
		out.DatabaseRoles = append(out.DatabaseRoles, &databasepb.DatabaseRole{Name: n})
	}
	return out, nil
}
