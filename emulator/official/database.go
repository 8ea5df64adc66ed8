package official

import (
	"context"
	"fmt"
	"regexp"

	database "cloud.google.com/go/spanner/admin/database/apiv1"
	"cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instance "cloud.google.com/go/spanner/admin/instance/apiv1"
	"cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var databaseName = regexp.MustCompile(`^(projects/[^/]+)/instances/([^/]+)/databases/([^/]+)$`)

// CreateDatabase creates the database
// projects/PROJECT/instances/INSTANCE/databases/DATABASE with the given
// GoogleSQL statements, and its instance if that is missing, on a Spanner
// emulator. An existing database is an error with code ALREADY_EXISTS.
// Instance ids need at least two characters, database ids too.
func (p *Process) CreateDatabase(ctx context.Context, name string, ddl ...string) error {
	m := databaseName.FindStringSubmatch(name)
	if m == nil {
		return fmt.Errorf("create database %q: want projects/PROJECT/instances/INSTANCE/databases/DATABASE", name)
	}
	project, instanceID, databaseID := m[1], m[2], m[3]
	if err := p.createInstance(ctx, project, instanceID); err != nil {
		return fmt.Errorf("create instance %s of %s: %w", instanceID, project, err)
	}
	client, err := database.NewDatabaseAdminClient(ctx, p.ClientOptions()...)
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer client.Close()
	op, err := client.CreateDatabase(ctx, &databasepb.CreateDatabaseRequest{
		Parent:          project + "/instances/" + instanceID,
		CreateStatement: "CREATE DATABASE `" + databaseID + "`",
		ExtraStatements: ddl,
	})
	if err == nil {
		_, err = op.Wait(ctx)
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

func (p *Process) createInstance(ctx context.Context, project, id string) error {
	client, err := instance.NewInstanceAdminClient(ctx, p.ClientOptions()...)
	if err != nil {
		return err
	}
	defer client.Close()
	op, err := client.CreateInstance(ctx, &instancepb.CreateInstanceRequest{
		Parent:     project,
		InstanceId: id,
		Instance: &instancepb.Instance{
			Config:      project + "/instanceConfigs/emulator-config",
			DisplayName: id,
			NodeCount:   1,
		},
	})
	if err == nil {
		_, err = op.Wait(ctx)
	}
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}
