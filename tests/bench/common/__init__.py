"""What the scripts of this folder share. The standard library is all they need."""
