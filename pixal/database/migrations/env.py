"""Run by Alembic: apply the migrations on the connection that ``pixal.database.store`` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
