package sql

import (
	"regexp"
	"strings"

	"github.com/cloudspannerecosystem/memefish/ast"
	"google.golang.org/grpc/codes"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// DDL is one parsed schema statement.
type DDL struct {
	// Descriptors is the serialized FileDescriptorSet that came with the statement; those about the proto bundle read it.
	Descriptors []byte

	text string
	tree ast.DDL
	// ifExists is IF NOT EXISTS of CREATE CHANGE STREAM and IF EXISTS of DROP, which the parser does not know.
	ifExists bool
	// translate is set for the PostgreSQL dialect: it writes the statement in GoogleSQL, given the schema of the moment.
	translate func(*store.Schema) (string, error)
}

// defaultSchema finds the name of the default schema in ON ALL … IN SCHEMA default, which the parser takes for a keyword.
var defaultSchema = regexp.MustCompile(`(?is)^(\s*(?:GRANT|REVOKE)\s.*\sON\s+ALL\s.*\sIN\s+SCHEMA\s+(?:.*,\s*)?)(DEFAULT)\b`)

// ParseDDL parses one schema statement.
func ParseDDL(text string) (d *DDL, err error) {
	d = &DDL{text: text}
	if len(text) > maxStatement || depth(text) > maxNesting {
		return nil, invalid("the statement is too long or nested too deeply")
	}
	if text, d.ifExists, err = streamDDL(text); err == nil {
		text = defaultSchema.ReplaceAllString(text, "$1`$2`")
		d.tree, err = parseDDL(text)
	}
	if err != nil {
		return nil, syntaxError("Error parsing Spanner DDL statement: "+d.text+" : ", err)
	}
	return d, nil
}

// builder changes a copy of a schema.
type builder struct {
	*store.Schema
	at          int64
	newID       func() int64
	text        string // of the statement
	descriptors []byte
}

// source is an expression or query as the statement writes it.
func (b *builder) source(n ast.Node) string {
	if from, to := int(n.Pos()), int(n.End()); from >= 0 && from < to && to <= len(b.text) {
		return b.text[from:to]
	}
	return n.SQL()
}

// Apply carries the statement out on a copy of s and returns the copy. at is the commit timestamp of the change in
// microseconds since 1970, newID gives fresh object ids.
func (d *DDL) Apply(s *store.Schema, at int64, newID func() int64) (*store.Schema, error) {
	if d.translate != nil {
		text, err := d.translate(s)
		if err != nil {
			return nil, err
		}
		g, err := ParseDDL(text)
		if err != nil {
			return nil, unimplemented("the PostgreSQL statement %s: %v", firstWords(d.text), err)
		}
		return g.Apply(s, at, newID)
	}
	b := &builder{Schema: s.Clone(), at: at, newID: newID, text: d.text, descriptors: d.Descriptors}
	var err error
	switch t := d.tree.(type) {
	case *ast.CreateSchema:
		err = b.createSchema(t)
	case *ast.DropSchema:
		err = b.dropSchema(t)
	case *ast.CreateTable:
		err = b.createTable(t)
	case *ast.AlterTable:
		err = b.alterTable(t)
	case *ast.DropTable:
		err = b.dropTable(t)
	case *ast.CreateIndex:
		err = b.createIndex(t)
	case *ast.DropIndex:
		err = b.dropIndex(t)
	case *ast.AlterIndex:
		err = b.alterIndex(t)
	case *ast.CreateView:
		err = b.createView(t)
	case *ast.DropView:
		err = b.dropView(t)
	case *ast.CreateSequence:
		err = b.createSequence(t)
	case *ast.AlterSequence:
		err = b.alterSequence(t)
	case *ast.DropSequence:
		err = b.dropSequence(t)
	case *ast.CreatePlacement:
		err = b.createPlacement(t)
	case *ast.DropPlacement:
		err = b.dropPlacement(t)
	case *ast.Analyze:
		// There are no statistics to gather.
	case *ast.CreateChangeStream:
		err = b.createStream(t, d.ifExists)
	case *ast.AlterChangeStream:
		err = b.alterStream(t)
	case *ast.DropChangeStream:
		err = b.dropStream(t, d.ifExists)
	case *ast.CreateProtoBundle:
		err = b.createProtoBundle(t)
	case *ast.AlterProtoBundle:
		err = b.alterProtoBundle(t)
	case *ast.DropProtoBundle:
		err = b.dropProtoBundle()
	case *ast.AlterDatabase:
		err = b.alterDatabase(t)
	case *ast.CreateRole:
		err = b.createRole(t)
	case *ast.DropRole:
		err = b.dropRole(t)
	case *ast.Grant:
		err = b.grant(t.Privilege, t.Roles, false)
	case *ast.Revoke:
		err = b.grant(t.Privilege, t.Roles, true)
	default:
		err = unimplemented("the statement %s", firstWords(d.text))
	}
	if err == nil {
		err = b.checkViews(d.text)
	}
	if err != nil {
		return nil, err
	}
	b.pruneGrants()
	return b.Schema, nil
}

// DatabaseName is the name in a CREATE DATABASE statement.
func DatabaseName(text string) (string, error) {
	if len(text) > maxStatement {
		return "", invalid("the statement is too long")
	}
	t, err := parseDDL(text)
	if err != nil {
		return "", invalid("Error parsing Spanner DDL statement: %s : %v", text, err)
	}
	c, ok := t.(*ast.CreateDatabase)
	if !ok {
		return "", invalid("create_statement must be CREATE DATABASE, not %s", firstWords(text))
	}
	return c.Name.Name, nil
}

func firstWords(text string) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(3, len(words))], " ")
}

func pathName(p *ast.Path) string {
	parts := make([]string, len(p.Idents))
	for i, id := range p.Idents {
		parts[i] = id.Name
	}
	return strings.Join(parts, ".")
}

// objectName checks the name of a new table or index and splits off its named schema.
func (b *builder) objectName(p *ast.Path) (schema, name string, err error) {
	switch len(p.Idents) {
	case 1:
		name = p.Idents[0].Name
	case 2:
		schema, name = p.Idents[0].Name, p.Idents[1].Name
		if !containsFold(b.Namespaces, schema) {
			return "", "", notFound("Schema not found: %s", schema)
		}
	default:
		return "", "", invalid("invalid object name %s", pathName(p))
	}
	if len(name) > 128 {
		return "", "", invalid("the name %s is longer than 128 characters", name)
	}
	return schema, name, nil
}

// clash refuses a name that another object of any kind has.
func (b *builder) clash(name string) error {
	if b.Table(name) != nil || b.Index(name) != nil || b.Stream(name) != nil || b.View(name) != nil || b.Sequence(name) != nil || containsFold(b.Namespaces, name) {
		return store.Errorf(codes.FailedPrecondition, "Duplicate name in schema: %s.", name)
	}
	return nil
}

func containsFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

func (b *builder) createSchema(t *ast.CreateSchema) error {
	if t.OrReplace {
		return unimplemented("CREATE OR REPLACE SCHEMA")
	}
	if containsFold(b.Namespaces, t.Name.Name) && t.IfNotExists {
		return nil
	}
	if strings.EqualFold(t.Name.Name, "INFORMATION_SCHEMA") || strings.EqualFold(t.Name.Name, "SPANNER_SYS") {
		return invalid("the schema name %s is reserved", t.Name.Name)
	}
	if err := b.clash(t.Name.Name); err != nil {
		return err
	}
	b.Namespaces = append(b.Namespaces, t.Name.Name)
	return nil
}

func (b *builder) dropSchema(t *ast.DropSchema) error {
	for i, n := range b.Namespaces {
		if !strings.EqualFold(n, t.Name.Name) {
			continue
		}
		if inside := b.contents(n); inside != "" {
			return failed("cannot drop schema %s: it contains %s", n, inside)
		}
		b.Namespaces = append(b.Namespaces[:i:i], b.Namespaces[i+1:]...)
		return nil
	}
	if t.IfExists {
		return nil
	}
	return notFound("Schema not found: %s", t.Name.Name)
}

// contents names something in a named schema.
func (b *builder) contents(schema string) string {
	for _, t := range b.Tables {
		if strings.EqualFold(t.Schema, schema) {
			return "table " + t.QualifiedName()
		}
	}
	for _, v := range b.Views {
		if strings.EqualFold(v.Schema, schema) {
			return "view " + v.QualifiedName()
		}
	}
	for _, q := range b.Sequences {
		if strings.EqualFold(q.Schema, schema) {
			return "sequence " + q.QualifiedName()
		}
	}
	return ""
}

func (b *builder) alterDatabase(t *ast.AlterDatabase) error {
	for _, o := range t.Options.Records {
		name := strings.ToLower(o.Name.Name)
		switch name {
		case "version_retention_period", "default_leader", "optimizer_version", "default_time_zone", "default_sequence_kind":
		default:
			return unimplemented("the database option %s", o.Name.Name)
		}
		if _, null := o.Value.(*ast.NullLiteral); null {
			delete(b.Options, name)
			continue
		}
		b.Options[name] = o.Value.SQL()
	}
	return nil
}
