"""What keeps a service running: logs, metrics, the doctor, backups."""
