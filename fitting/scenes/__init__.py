"""Scenes of several cameras: their files, cameras and people."""
