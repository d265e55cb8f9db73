"""Pictures of bodies, skeletons and scenes."""
