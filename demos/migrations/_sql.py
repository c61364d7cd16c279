"""What demos has in the database that no model says, in its final form (docs/adr/0003-foreign-keys-upwards.md)."""

# Refuses a project that is built without an approved demo of the commit it names.
APPROVED_DEMO = """
ALTER TABLE projects_project
    ADD CONSTRAINT projects_project_approved_demo_fk FOREIGN KEY (approved_demo_id)
    REFERENCES demos_demo (id) DEFERRABLE INITIALLY DEFERRED;

CREATE FUNCTION projects_check_approved_demo() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NOT EXISTS (
                        SELECT 1 FROM demos_demo
                        WHERE id = NEW.approved_demo_id AND project_id = NEW.id
                          AND status = 'approved' AND commit = NEW.approved_demo_commit
                    ) THEN
                        RAISE EXCEPTION 'project % names a demo that is not approved at that commit', NEW.id
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                END $$;

CREATE TRIGGER projects_approved_demo
    BEFORE INSERT OR UPDATE OF status, approved_demo_id, approved_demo_commit
    ON projects_project FOR EACH ROW
    WHEN (NEW.approved_demo_id IS NOT NULL AND NEW.status IN ('demo', 'building', 'complete'))
    EXECUTE FUNCTION projects_check_approved_demo();
"""
