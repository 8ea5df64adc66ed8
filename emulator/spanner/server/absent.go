package server

import (
	"context"
	"path"
	"slices"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	noBackups    = "there are no backups; RestoreDatabase of package server makes a copy of a database, as a restored backup is"
	noPolicies   = "nobody is authenticated here; what a session's database role may do is checked, and set with GRANT"
	noConfigs    = "there is one instance configuration, emulator-config, which cannot be changed"
	noPartitions = "an instance has no partitions but the default one"
)

// absent are the methods that are not built, and what stands for them.
var absent = map[string]string{
	"CreateBackup": noBackups, "CopyBackup": noBackups, "GetBackup": noBackups, "UpdateBackup": noBackups, "DeleteBackup": noBackups,
	"RestoreDatabase": noBackups, "CreateBackupSchedule": noBackups, "GetBackupSchedule": noBackups, "UpdateBackupSchedule": noBackups,
	"DeleteBackupSchedule": noBackups,
	"SetIamPolicy":         noPolicies, "GetIamPolicy": noPolicies, "TestIamPermissions": noPolicies,
	"CreateInstanceConfig": noConfigs, "UpdateInstanceConfig": noConfigs, "DeleteInstanceConfig": noConfigs,
	"MoveInstance":            "there is one instance configuration, so there is nowhere to move to",
	"CreateInstancePartition": noPartitions, "UpdateInstancePartition": noPartitions, "DeleteInstancePartition": noPartitions,
	"AddSplitPoints":               "rows are not split here; the partitions of change streams are, with Split of package changes",
	"InternalUpdateGraphOperation": "it is for Spanner's own use",
}

// explained is a service whose absent methods say what stands for them.
func explained(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	out := *desc
	out.Methods = slices.Clone(desc.Methods)
	for i, m := range out.Methods {
		advice, ok := absent[m.MethodName]
		if !ok {
			continue
		}
		name := path.Base(desc.ServiceName) + "." + m.MethodName
		out.Methods[i].Handler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			res, err := m.Handler(srv, ctx, dec, interceptor)
			if status.Code(err) == codes.Unimplemented {
				err = errorf(codes.Unimplemented, "the embedded Spanner does not support %s: %s", name, advice)
			}
			return res, err
		}
	}
	return &out
}

// FetchCacheUpdate is for clients that choose servers by location, of which there is one.
func (a *dataService) FetchCacheUpdate(*sppb.FetchCacheUpdateRequest, sppb.Spanner_FetchCacheUpdateServer) error {
	return errorf(codes.Unimplemented, "the embedded Spanner does not support %s.FetchCacheUpdate: there is one server, and so no locations to choose from", path.Base(sppb.Spanner_ServiceDesc.ServiceName))
}
