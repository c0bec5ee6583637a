"""What a user asked for, checked: a spec and the plan that is built from it. Nothing is stored or run here."""
