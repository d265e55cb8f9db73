"""What people bring: pictures and keypoint files, checked at the border."""
